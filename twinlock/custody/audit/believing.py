"""What is believed of the audit log without reading all of it: what keys vouch for that the database does not hold.

Whoever writes the owner's tables can put any checkpoint there, and any cut. A checkpoint counts where the sealer signed
it, and the seal that it names is there with that head; a cut where it is genuine besides.
"""

from dataclasses import dataclass, field

from sqlalchemy import select

from twinlock.custody.audit.chain import Signed
from twinlock.custody.audit.cut import Cut, read_cut
from twinlock.custody.errors import Distrusted
from twinlock.store.tables.custody import audit_checkpoints, audit_seals
from twinlock.store.unit import Reader

_seal, _checkpoint = audit_seals.c, audit_checkpoints.c


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Hold the key of the entries' MACs, and the public one of the checkpoints."""

    mac: bytes = field(repr=False)
    public: bytes


class ForgedCheckpoint(Distrusted):
    """Refuse to serve from a database whose newest checkpoint nobody signed, or not of this chain."""

    def __init__(self, seal: int) -> None:
        detail = f"the audit log's newest checkpoint, that of seal {seal}, is not one that was signed of it"
        super().__init__(detail, policy="", hint="see to it first: twinlock audit verify")


async def believed_checkpoint(reader: Reader, public: bytes) -> Signed | None:
    """Return what was signed last, or none where nothing was; raise `ForgedCheckpoint` where that can't be believed."""
    newest = select(_checkpoint.seal, _checkpoint.statement, _checkpoint.signature, _seal.head)
    joined = newest.join_from(audit_checkpoints, audit_seals, _seal.number == _checkpoint.seal, isouter=True)
    row = await reader.row(joined.order_by(_checkpoint.seal.desc()).limit(1))
    if row is None:
        return None
    signed = Signed(row.statement, row.signature)
    # Also the number of its row: an old one under a high number would hide all that follow.
    if not signed.is_by(public) or (signed.seal, signed.head) != (row.seal, row.head):
        raise ForgedCheckpoint(row.seal)
    return signed


async def believed_cut(reader: Reader, keys: LogKeys) -> Cut | None:
    """Return where the log begins, or none where it begins with its first entry, or nobody recorded where else."""
    cut = await read_cut(reader)
    if cut is None or not cut.is_genuine(keys.mac, keys.public):
        return None
    return cut if await head_of(reader, cut.seal) == cut.head else None


async def head_of(reader: Reader, number: int) -> bytes | None:
    """Return the head of a seal, or none where it is not there."""
    head: bytes | None = await reader.scalar(select(_seal.head).where(_seal.number == number))
    return head
