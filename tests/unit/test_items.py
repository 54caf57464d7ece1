"""Items are encrypted under keys derived from a container key."""

from dataclasses import replace
from typing import Any

import pytest

from tests.streams import decrypt_stream, encrypt_stream
from twinlock.keys.aead import OVERHEAD_BYTES, Aead
from twinlock.keys.context import ItemContext
from twinlock.keys.errors import DecryptionError, KeyWipedError
from twinlock.keys.items import MAX_ITEMS_PER_GENERATION, STREAM_ABOVE, ItemCipher, ItemFormat, format_for
from twinlock.keys.secret import SecretKey

KEY = SecretKey(bytes(range(32)))
PLACE = ItemContext("contoso", "kim@contoso.example", 7, "0190-item", 2)
MAIL = b"From: kim\r\n\r\nhello"


@pytest.fixture
def cipher() -> ItemCipher:
    """Return a cipher of the fixed key."""
    return ItemCipher(KEY)


@pytest.mark.parametrize("plaintext", [b"", b"x", MAIL, bytes(STREAM_ABOVE)])
def test_round_trip(cipher: ItemCipher, plaintext: bytes) -> None:
    """An item decrypts to its bytes, and grows by nonce and tag alone."""
    sealed = cipher.encrypt(plaintext, PLACE)

    assert len(plaintext) + OVERHEAD_BYTES == len(sealed)
    assert plaintext == cipher.decrypt(sealed, PLACE)


def test_outlives_the_container_key() -> None:
    """The container key may be wiped as soon as the cipher is made."""
    container = SecretKey(bytes(range(32)))
    cipher = ItemCipher(container)
    container.wipe()

    assert MAIL == ItemCipher(KEY).decrypt(cipher.encrypt(MAIL, PLACE), PLACE)


@pytest.mark.parametrize(
    "change", [{"tenant": "x"}, {"container": "x"}, {"generation": 8}, {"item": "x"}, {"version": 3}]
)
def test_moved(cipher: ItemCipher, change: dict[str, Any]) -> None:
    """An item moved to any other row, generation or version fails and says nothing more (law 2)."""
    with pytest.raises(DecryptionError) as caught:
        cipher.decrypt(cipher.encrypt(MAIL, PLACE), replace(PLACE, **change))

    assert caught.value.__suppress_context__


def test_wrong_key(cipher: ItemCipher) -> None:
    """Another container key fails with the same error (law 2)."""
    with pytest.raises(DecryptionError):
        ItemCipher(SecretKey.generate()).decrypt(cipher.encrypt(MAIL, PLACE), PLACE)


def test_mac_in_pieces(cipher: ItemCipher) -> None:
    """The import MAC is the same however the message is cut, and asking for it changes nothing."""
    mac = cipher.mac()
    mac.update(MAIL[:5])
    before = mac.digest()
    mac.update(memoryview(MAIL)[5:])

    assert cipher.import_mac(MAIL[:5]) == before
    assert cipher.import_mac(MAIL) == mac.digest() == mac.digest()


def test_mac_is_keyed(cipher: ItemCipher) -> None:
    """Another container key generation gives another MAC: equal mails of two mailboxes don't show."""

    assert cipher.import_mac(MAIL) != ItemCipher(SecretKey.generate()).import_mac(MAIL)


def test_stream_key(cipher: ItemCipher) -> None:
    """The stream key is neither the container key nor another container's."""

    assert KEY != cipher.stream_key()
    assert cipher.stream_key() == ItemCipher(KEY).stream_key()
    assert cipher.stream_key() != ItemCipher(SecretKey.generate()).stream_key()


def test_stream_of_an_item(cipher: ItemCipher) -> None:
    """A large item goes through the stream key and its context."""
    sealed = list(encrypt_stream(cipher.stream_key(), PLACE.encode(), [MAIL]))

    assert MAIL == b"".join(decrypt_stream(cipher.stream_key(), PLACE.encode(), sealed))


def test_wiped(cipher: ItemCipher) -> None:
    """A wiped cipher refuses every use, and may be wiped again."""
    sealed, stream_key = cipher.encrypt(MAIL, PLACE), cipher.stream_key()
    cipher.wipe()
    cipher.wipe()

    for use in (
        lambda: cipher.encrypt(MAIL, PLACE),
        lambda: cipher.decrypt(sealed, PLACE),
        lambda: cipher.import_mac(MAIL),
        cipher.mac,
        cipher.stream_key,
        stream_key.expose,
    ):
        with pytest.raises(KeyWipedError):
            use()


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, ItemFormat.AEAD), (1024 * 1024, ItemFormat.AEAD), (1024 * 1024 + 1, ItemFormat.STREAM)],
)
def test_format_for(size: int, expected: ItemFormat) -> None:
    """An item above 1 MiB is a stream."""

    assert expected == format_for(size)


def test_limit() -> None:
    """Random nonces under one key stay below NIST's bound: no collision with probability above 2^-32."""

    assert 2**-32 > MAX_ITEMS_PER_GENERATION**2 / 2 / 2**96


@pytest.mark.parametrize("size", [0, len(MAIL) - 1, len(MAIL) + 1])
def test_exact_buffer(size: int) -> None:
    """What does not fill the buffer exactly is the one error, before anything is decrypted (law 2)."""
    aead = Aead(bytes(32))
    with pytest.raises(DecryptionError):
        aead.decrypt_into(aead.encrypt(MAIL, b""), b"", bytearray(size))


@pytest.mark.parametrize("size", [0, 16, 24, 33, 64])
def test_aes_256_alone(size: int) -> None:
    """A key of any other length is refused, the lengths of AES-128 and AES-192 too."""
    with pytest.raises(ValueError, match="32 bytes"):
        Aead(bytes(size))
