"""Every purpose has a key of its own."""

from itertools import combinations

import pytest

from twinlock.keys import kdf
from twinlock.keys.secret import SecretKey

KEY = SecretKey(bytes(range(32)))


def test_labels_separate() -> None:
    """Every label gives another key."""
    derived = {kdf.derive(KEY, label) for label in kdf.Label}

    assert len(kdf.Label) == len(derived)


def test_labels_never_meet() -> None:
    """No label holds the separator or starts another, so that label and info can't slide into each other."""

    assert not any("\x00" in label for label in kdf.Label)
    assert not any(a.startswith(b) or b.startswith(a) for a, b in combinations(kdf.Label, 2))


def test_info_and_length() -> None:
    """Info changes what is derived; a longer output starts with the shorter one."""

    assert kdf.derive(KEY, kdf.Label.WRAP, b"x") != kdf.derive(KEY, kdf.Label.WRAP, b"y")
    assert kdf.derive(KEY, kdf.Label.WRAP, b"x") == kdf.derive(KEY, kdf.Label.WRAP, b"x", 64)[:32]


def test_unknown_label() -> None:
    """A label that is not in the list is refused: a typing mistake must not make a new key."""
    with pytest.raises(ValueError, match=r"twinlock\.itm\.v1"):
        kdf.derive(KEY, "twinlock.itm.v1")


def test_commitment() -> None:
    """The commitment is the derivation with its own label."""

    assert kdf.derive(KEY, kdf.Label.COMMITMENT) == kdf.commitment(KEY) == KEY.commitment()
