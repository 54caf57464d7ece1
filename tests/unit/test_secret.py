"""A secret key guards its bytes."""

import copy
import pickle
from collections.abc import Callable

import pytest

from twinlock.keys.errors import DecryptionError, KeyWipedError
from twinlock.keys.items import ItemCipher
from twinlock.keys.secret import KEY_BYTES, SecretKey
from twinlock.keys.streaming import StreamDecrypter, StreamEncrypter

RAW = b"canary-canary-canary-canary-1234"
HOLDERS: dict[str, Callable[[], object]] = {
    "key": lambda: SecretKey(RAW),
    "cipher": lambda: ItemCipher(SecretKey(RAW)),
    "mac": lambda: ItemCipher(SecretKey(RAW)).mac(),
    "encrypter": lambda: StreamEncrypter(SecretKey(RAW), b""),
    "decrypter": lambda: StreamDecrypter(SecretKey(RAW), b""),
}


@pytest.fixture(params=sorted(HOLDERS))
def holder(request: pytest.FixtureRequest) -> object:
    """Return one of the objects that hold key material."""
    return HOLDERS[request.param]()


@pytest.mark.parametrize("raw", [RAW, bytearray(RAW), memoryview(RAW), memoryview(RAW).cast("I")])
def test_takes_buffers(raw: bytes) -> None:
    """A key takes 32 bytes from any kind of buffer."""

    assert RAW == bytes(SecretKey(raw).expose())


def test_own_buffer() -> None:
    """A key copies what it is given, so that the source may be wiped."""
    source = bytearray(RAW)
    key = SecretKey(source)
    source[:] = bytes(KEY_BYTES)

    assert RAW == bytes(key.expose())


def test_take() -> None:
    """Taking a buffer leaves zeros behind."""
    source = bytearray(RAW)

    assert RAW == bytes(SecretKey.take(source).expose())
    assert bytearray(KEY_BYTES) == source


@pytest.mark.parametrize("raw", [b"", RAW[:-1], RAW + b"5"])
def test_wrong_length(raw: bytes) -> None:
    """A wrong length is refused without showing a byte."""
    with pytest.raises(ValueError, match="32 bytes") as caught:
        SecretKey(raw)

    assert "canary" not in str(caught.value)


def test_generate() -> None:
    """Two generated keys differ."""

    assert SecretKey.generate() != SecretKey.generate()


def test_equality() -> None:
    """Keys are equal by their bytes, and equal to nothing else."""

    assert SecretKey(RAW) == SecretKey(bytearray(RAW))
    assert SecretKey(RAW) != SecretKey(RAW[::-1])
    assert SecretKey(RAW) != RAW


def test_wipe_zeroes() -> None:
    """Wiping zeroes the very buffer that was lent out, and may be repeated."""
    key = SecretKey(RAW)
    lent = key.expose()
    key.wipe()
    key.wipe()

    assert bytearray(KEY_BYTES) == lent


def test_wiped_is_useless() -> None:
    """A wiped key refuses every use instead of working with zeros."""
    key = SecretKey(RAW)
    key.wipe()

    for use in (key.expose, key.commitment, lambda: key == SecretKey(RAW), lambda: ItemCipher(key)):
        with pytest.raises(KeyWipedError, match="wiped"):
            use()


def test_commitment() -> None:
    """A commitment is 32 stable bytes that differ between keys and show none of the key."""
    commitment = SecretKey(RAW).commitment()

    assert 32 == len(commitment)
    assert SecretKey(RAW).commitment() == commitment
    assert SecretKey(RAW[::-1]).commitment() != commitment
    assert RAW[:4] not in commitment


def test_prints_nothing(holder: object) -> None:
    """No holder of key material prints a byte of it, whichever way it is formatted."""
    shown = f"{holder} {holder!r} {holder!s} {holder:>200} {[holder]} {holder}"

    assert f"<{type(holder).__name__} (redacted)>" == str(holder)
    assert "canary" not in shown
    assert RAW.hex() not in shown


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, lambda x: x.__getstate__()])
def test_never_leaves(holder: object, leak: Callable[[object], object]) -> None:
    """No holder of key material can be pickled or copied."""
    with pytest.raises(TypeError, match="never pickled or copied"):
        leak(holder)


def test_not_hashable() -> None:
    """A key can't be a dictionary key: a hash would outlive the wipe."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(SecretKey(RAW))


def test_no_attributes() -> None:
    """A key has no dictionary of attributes to dump."""

    assert not hasattr(SecretKey(RAW), "__dict__")


def test_one_message() -> None:
    """A decryption error takes no argument, so that it can't say more than the one message (law 2)."""
    with pytest.raises(TypeError):
        DecryptionError("the tag was wrong")  # type: ignore[call-arg]  # the misuse under test

    assert "does not decrypt: wrong key, wrong place, or damaged" == str(DecryptionError())
