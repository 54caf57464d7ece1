"""One key wrapped under another opens in its place and nowhere else."""

from dataclasses import replace

import pytest

from twinlock.keys import kdf
from twinlock.keys.context import ContainerKeyContext, Context, ItemContext, PolicyKeyContext
from twinlock.keys.errors import DecryptionError, KeyWipedError
from twinlock.keys.root_payload import seal
from twinlock.keys.secret import SecretKey
from twinlock.keys.wrap import WRAPPED_KEY_BYTES, unwrap_key, wrap_key

WRAPPING, KEY = SecretKey(bytes(range(32))), SecretKey(bytes(range(32, 64)))
PLACE = ContainerKeyContext("contoso", "payroll", 3, "kim@contoso.example", 7)


def test_round_trip() -> None:
    """A wrapped key opens to the same key."""
    wrapped = wrap_key(WRAPPING, KEY, PLACE)

    assert WRAPPED_KEY_BYTES == len(wrapped)
    assert KEY == unwrap_key(WRAPPING, wrapped, PLACE)


def test_fresh_nonce() -> None:
    """The same key wrapped twice gives different bytes, and both open."""
    one, other = wrap_key(WRAPPING, KEY, PLACE), wrap_key(WRAPPING, KEY, PLACE)

    assert one != other
    assert unwrap_key(WRAPPING, one, PLACE) == unwrap_key(WRAPPING, other, PLACE)


@pytest.mark.parametrize(
    "place",
    [
        replace(PLACE, tenant="fabrikam"),
        replace(PLACE, policy="legal"),
        replace(PLACE, policy_key_generation=4),
        replace(PLACE, container="lee@contoso.example"),
        replace(PLACE, generation=8),
        ItemContext("contoso", "kim@contoso.example", 7, "payroll", 3),
    ],
)
def test_moved(place: Context) -> None:
    """A wrapped key moved to any other row fails and says nothing more (law 2)."""
    wrapped = wrap_key(WRAPPING, KEY, PLACE)
    with pytest.raises(DecryptionError) as caught:
        unwrap_key(WRAPPING, wrapped, place)

    assert caught.value.__cause__ is None
    assert "does not decrypt: wrong key, wrong place, or damaged" == str(caught.value)


def test_wrong_key() -> None:
    """Another wrapping key fails with the same error (law 2)."""
    with pytest.raises(DecryptionError):
        unwrap_key(KEY, wrap_key(WRAPPING, KEY, PLACE), PLACE)


def test_commitment_is_checked() -> None:
    """A wrapped key whose ciphertext is good and whose commitment is another's fails (law 1)."""
    wrapped, other = wrap_key(WRAPPING, KEY, PLACE), wrap_key(KEY, KEY, PLACE)
    spliced = wrapped[: -kdf.COMMITMENT_BYTES] + other[-kdf.COMMITMENT_BYTES :]

    with pytest.raises(DecryptionError):
        unwrap_key(WRAPPING, spliced, PLACE)


def test_wiped_keys() -> None:
    """A wiped key is neither wrapped nor wraps: nothing is ever stored under zeros."""
    wiped = SecretKey.generate()
    wiped.wipe()

    with pytest.raises(KeyWipedError):
        wrap_key(wiped, KEY, PLACE)
    with pytest.raises(KeyWipedError):
        wrap_key(WRAPPING, wiped, PLACE)
    with pytest.raises(KeyWipedError):
        unwrap_key(wiped, wrap_key(WRAPPING, KEY, PLACE), PLACE)


class WipedMeanwhile(SecretKey):
    """A key that another thread wipes right after its buffer was lent."""

    __slots__ = ()

    def expose(self) -> bytearray:
        """Lend the buffer and lose the race."""
        lent = super().expose()
        self.wipe()
        return lent


def test_race_with_wipe() -> None:
    """A key wiped by another thread in the middle of its use is noticed, not used as zeros."""
    for wrapping, key in ((WipedMeanwhile(bytes(range(32))), KEY), (WRAPPING, WipedMeanwhile(bytes(range(32))))):
        with pytest.raises(KeyWipedError):
            wrap_key(wrapping, key, PLACE)
    with pytest.raises(KeyWipedError):
        seal(WipedMeanwhile(bytes(range(32))), PolicyKeyContext("contoso", "payroll", 3, "a"))
