"""What a vault wraps is bound to its place and to the one commitment."""

from dataclasses import replace

import pytest

from twinlock.keys.context import PolicyKeyContext
from twinlock.keys.errors import DecryptionError, KeyWipedError
from twinlock.keys.root_payload import PAYLOAD_BYTES, open_payload, seal
from twinlock.keys.secret import SecretKey

KEY = SecretKey(bytes(range(32)))
PLACE = PolicyKeyContext("contoso", "payroll", 1, "a")


def test_round_trip() -> None:
    """64 bytes open to the policy key that was sealed."""
    payload = seal(KEY, PLACE)

    assert PAYLOAD_BYTES == len(payload)
    assert KEY == open_payload(payload, PLACE, KEY.commitment())


@pytest.mark.parametrize("commitment", [b"", bytes(32), SecretKey(bytes(32)).commitment(), KEY.commitment()[:-1]])
def test_wrong_commitment(commitment: bytes) -> None:
    """An answer that does not fit the commitment is no answer (law 1)."""
    with pytest.raises(DecryptionError):
        open_payload(seal(KEY, PLACE), PLACE, commitment)


def test_other_key() -> None:
    """A whole and well-placed answer that holds another key is refused (law 1)."""
    with pytest.raises(DecryptionError):
        open_payload(seal(SecretKey.generate(), PLACE), PLACE, KEY.commitment())


@pytest.mark.parametrize(
    "change", [{"tenant": "fabrikam"}, {"policy": "legal"}, {"generation": 2}, {"slot": "b"}, {"slot": "availability"}]
)
def test_moved(change: dict[str, str]) -> None:
    """An answer made for another tenant, policy, generation or slot is refused (law 2)."""
    with pytest.raises(DecryptionError):
        open_payload(seal(KEY, PLACE), replace(PLACE, **change), KEY.commitment())  # type: ignore[arg-type]  # one key each


def test_wiped_key() -> None:
    """A wiped key is never handed to a vault as zeros."""
    wiped = SecretKey.generate()
    wiped.wipe()

    with pytest.raises(KeyWipedError):
        seal(wiped, PLACE)
