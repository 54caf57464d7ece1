"""The demo's proofs, each a function that returns what speaks against it: an empty text where nothing does."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PIECE_BYTES = 32
_LEAST_VARIETY = 12  # different bytes in a piece: a row of zeros or dashes also lies where no mail is


def digests(items: Iterable[bytes]) -> Counter[str]:
    """Count items by the SHA-256 of their bytes: the same mail twice is not the same as once."""
    return Counter(hashlib.sha256(item).hexdigest() for item in items)


def files(*folders: Path) -> Iterator[bytes]:
    """Return the bytes of every file below some folders."""
    for path in paths(*folders):
        yield path.read_bytes()


def paths(*folders: Path) -> Iterator[Path]:
    """Return every file below some folders."""
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.is_file())


def differs(before: Counter[str], after: Counter[str]) -> str:
    """Compare what went in with what came out, item by item."""
    lost, new = (before - after).total(), (after - before).total()
    if not before:
        return "nothing went in"
    return f"{lost} items are missing or changed, {new} came that never went in" if lost or new else ""


def pieces(items: Iterable[bytes]) -> set[bytes]:
    """Return the middle of every item that is long and varied enough to be found by it."""
    middles = (item[len(item) // 2 :][:PIECE_BYTES] for item in items)
    return {piece for piece in middles if len(piece) == PIECE_BYTES and len(set(piece)) >= _LEAST_VARIETY}


def readable(wanted: Collection[bytes], stored: Iterable[Path]) -> str:
    """Search files for pieces of content; name the first file that holds one."""
    for path in stored:
        content = path.read_bytes()
        if any(piece in content for piece in wanted):
            return f"{path.name} holds content that anybody can read"
    return ""


def overlooked(wanted: Collection[bytes], exported: Iterable[bytes]) -> str:
    """Search where every piece has to be: a search that finds nothing anywhere proves nothing."""
    left = set(wanted)
    for content in exported:
        left -= {piece for piece in left if piece in content}
    if not wanted:
        return "there was nothing to search for"
    return f"{len(left)} of {len(wanted)} pieces are not in the export, so the search is worth nothing" if left else ""


def unprotected(mailboxes: Sequence[Mapping[str, Any]], policy: str, expected: int) -> str:
    """Look for mailboxes, or items of them, that are not under a policy's keys."""
    for box in mailboxes:
        if box["data_encryption_policy_id"] != policy or not box["is_encrypted"]:
            return f"{box['address']}: {box['items_encrypted']} of {box['items']} items are under the customer's keys"
    counted = sum(box["items_encrypted"] for box in mailboxes)
    return f"{counted} items are under the customer's keys, not {expected}" if counted != expected else ""


def unreverted(mailboxes: Sequence[Mapping[str, Any]]) -> str:
    """Look for mailboxes that are still under a customer's policy."""
    left = [box["address"] for box in mailboxes if box["data_encryption_policy_id"] or box["state"] != "service"]
    return f"still under the customer's keys: {', '.join(left)}" if left else ""
