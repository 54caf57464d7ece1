"""The demo's proofs notice what they are there to notice, and its mail is read as its README counts it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cli.demo import mail, proof

MAIL = [b"one mail", b"another mail", b"another mail"]
PIECE = b"0123456789abcdef0123456789ABCDEF"


def box(**changed: Any) -> dict[str, Any]:
    """Return a mailbox's document."""
    whole = {
        "address": "ann@contoso.example",
        "data_encryption_policy_id": "p",
        "is_encrypted": True,
        "items": 5,
        "items_encrypted": 5,
        "state": "encrypted",
    }
    return whole | changed


@pytest.mark.parametrize(
    ("came", "lost", "new"),
    [
        ([b"one mail", b"another mail", b"another maim"], 1, 1),
        ([b"one mail", b"another mail"], 1, 0),
        ([*MAIL, b"one mail"], 0, 1),
    ],
    ids=["changed", "lost", "doubled"],
)
def test_difference_is_found(came: list[bytes], lost: int, new: int) -> None:
    """A changed byte, a lost item and an item that came twice are all found."""
    fault = proof.differs(proof.digests(MAIL), proof.digests(came))

    assert f"{lost} items are missing or changed, {new} came that never went in" == fault


def test_order_does_not_matter() -> None:
    """The same mail in another order is the same."""
    assert proof.differs(proof.digests(MAIL), proof.digests(reversed(MAIL))) == ""


def test_nothing_proves_nothing() -> None:
    """Where nothing went in, or nothing is searched for, nothing is proven."""
    assert proof.differs(Counter(), Counter()) == "nothing went in"
    assert proof.overlooked(set(), [b"x"]) == "there was nothing to search for"


def test_planted_plaintext_is_found(tmp_path: Path) -> None:
    """A piece of mail in any file, however deep, is found, and the file is named."""
    deep = tmp_path / "objects" / "ab"
    deep.mkdir(parents=True)
    (tmp_path / "twinlock.db-wal").write_bytes(b"\0" * 5000)
    assert proof.readable({PIECE}, proof.paths(tmp_path)) == ""
    (deep / "planted").write_bytes(b"\0" * 70_000 + PIECE + b"\0")

    assert (
        proof.readable({PIECE, b"something else"}, proof.paths(tmp_path))
        == "planted holds content that anybody can read"
    )


def test_blind_search_is_found() -> None:
    """A search that would not even find the mail in the export is no proof."""
    assert proof.overlooked({PIECE}, [b"here: " + PIECE]) == ""

    assert "1 of 2 pieces are not in the export" in proof.overlooked({PIECE, b"other"}, [b"here: " + PIECE])


def test_pieces_are_worth_searching() -> None:
    """A piece is the middle of an item; items that are too short or too dull have none."""
    long = b"a" * 20 + PIECE + b"z" * 20

    assert {long[36:68]} == proof.pieces([long, b"short", b"=" * 500, b""])


@pytest.mark.parametrize(
    "changed",
    [
        {"is_encrypted": False, "items_encrypted": 4},
        {"data_encryption_policy_id": None},
        {"data_encryption_policy_id": "other"},
        {"items": 4, "items_encrypted": 4},
    ],
    ids=["not finished", "service policy", "other policy", "items lost"],
)
def test_unprotected_mailbox_is_found(changed: dict[str, Any]) -> None:
    """A mailbox under other keys, one that is not finished, and one that lost items are found."""
    assert proof.unprotected([box()], "p", 5) == ""

    assert proof.unprotected([box(**changed)], "p", 5) != ""


def test_mailbox_left_behind_is_found() -> None:
    """A mailbox that is still under the customer's policy is named."""
    back = box(data_encryption_policy_id=None, is_encrypted=False, state="service")
    assert proof.unreverted([back]) == ""

    assert proof.unreverted([back, box()]) == "still under the customer's keys: ann@contoso.example"


def test_sources(tmp_path: Path) -> None:
    """The demo's own reading finds the samples' items, the copies, the large mail, and the random word once."""
    made = mail.make(tmp_path, copies=20)
    counts = [
        len(list(made.items(source))) for source in (mail.INBOX, mail.ARCHIVE, mail.TEAM, mail.LARGE, mail.CALENDAR)
    ]
    archive = list(made.items(mail.ARCHIVE))

    assert [18, 21, 7, 1, 9] == counts
    assert len(set(archive)) == 21
    assert [made.canary.encode() in item for item in archive] == [False] * 20 + [True]
    assert len(next(made.items(mail.LARGE))) > mail.ATTACHMENT_BYTES
