"""Where the log begins once its past was exported and pruned: behind a checkpoint, as an entry of the log records."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import select

from twinlock.custody.audit.chain import Signed
from twinlock.custody.audit.log import is_genuine
from twinlock.errors import TwinlockError
from twinlock.store.tables.custody import audit_checkpoints, audit_cuts, audit_entries
from twinlock.store.unit import Reader

PRUNED = "audit-pruned"  # the entry that records a cut
UNREADABLE = (TypeError, ValueError, OverflowError, AttributeError, KeyError, RecursionError)


@dataclass(frozen=True, slots=True)
class Cut:
    """Hold the checkpoint behind which the log begins, and the entry that records it; `is_genuine` says if it may."""

    signed: Signed
    record: Any
    seal: int
    head: bytes
    entries: int
    positions: Mapping[str, int]

    @classmethod
    def of(cls, signed: Signed, record: Any) -> "Cut":
        """Read what the checkpoint says; raise one of `UNREADABLE` where it is none."""
        said = json.loads(signed.statement)
        positions = {str(writer): int(place) for writer, place in said["positions"].items()}
        return cls(signed, record, int(said["seal"]), bytes.fromhex(said["head"]), int(said["entries"]), positions)

    def is_genuine(self, mac_key: bytes, public: bytes) -> bool:
        """Say whether the sealer signed the checkpoint, and somebody with the key of the MACs recorded the cut.

        The first alone is in every log: without the second whoever can delete rows could choose where a log begins.
        """
        try:
            recorded = self.record.detail["seal"] == self.seal and self.record.detail["head"] == self.head.hex()
            signed = self.signed.is_by(public)
            return self.record.kind == PRUNED and recorded and signed and is_genuine(mac_key, self.record)
        except UNREADABLE:
            return False

    def has_kept(self, kept: Iterable[Any]) -> bool:
        """Say whether these are the entries of which the record says that they stay."""
        try:
            return bool(self.record.detail["kept"] == digest_of(kept))
        except UNREADABLE:
            return False


def digest_of(kept: Iterable[Any]) -> str:
    """Return the SHA-256 of the entries that stay of what lies before a cut: each writer's last one."""
    named = sorted((entry.writer, entry.sequence, entry.mac) for entry in kept)
    return sha256(b"".join(f"{writer}\0{sequence}\0".encode() + mac for writer, sequence, mac in named)).hexdigest()


class ForgedCut(TwinlockError):
    """Refuse to take a place for the log's beginning that nobody recorded."""


async def checked_cut(reader: Reader, mac_key: bytes, public: bytes) -> Cut | None:
    """Return where the log begins, as `read_cut` does; raise `ForgedCut` where it may not begin there."""
    cut = await read_cut(reader)
    if cut is not None and not cut.is_genuine(mac_key, public):
        raise ForgedCut(
            f"the audit log is said to begin behind seal {cut.seal}, and no entry of it records that",
            hint="see to it first: twinlock audit verify",
        )
    return cut


async def read_cut(reader: Reader) -> Cut | None:
    """Return where the log begins, or none where it begins with its first entry, or nothing tells how it was cut."""
    made = await reader.row(select(audit_cuts).order_by(audit_cuts.c.seal.desc()).limit(1))
    if made is None:
        return None
    named = (audit_entries.c.writer == made.writer, audit_entries.c.sequence == made.sequence)
    try:
        record = await reader.row(select(audit_entries).where(*named))
        row = await reader.row(select(audit_checkpoints).where(audit_checkpoints.c.seal == made.seal))
        return None if record is None or row is None else Cut.of(Signed(row.statement, row.signature), record)
    except UNREADABLE:
        return None
