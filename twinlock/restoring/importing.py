"""Put the lost part of the audit log back in its place, so that one chain goes on.

What was written after the restore, if anything, stands where the lost entries belong: it is taken out, and written
again behind them, as new entries that say when it happened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select

from twinlock.custody.audit.chain import moment
from twinlock.custody.audit.exported import Exported
from twinlock.custody.audit.log import AuditEntry, AuditLog, lock_writer
from twinlock.custody.audit.sealing import lock_chain
from twinlock.custody.revocation.mark import Mark
from twinlock.restoring.changes import renumbered
from twinlock.store.tables.custody import audit_checkpoints, audit_entries, audit_seals
from twinlock.store.unit import Reader, Store, Unit

_entry, _seal, _checkpoint = audit_entries.c, audit_seals.c, audit_checkpoints.c
_SEALED = ("number", "writer", "first", "last", "at", "entries")
_WRITTEN = ("writer", "sequence", "at", "kind", "tenant_id", "policy_id", "detail", "mac")


@dataclass(frozen=True, slots=True)
class PutBack:
    """Hold the entries that were lost, in the order of the chain, and those that were written since the restore."""

    lost: Sequence[Any] = ()
    strays: Sequence[Any] = ()


async def put_back(unit: Unit, exported: Exported, newest: Mark) -> PutBack:
    """Write what the database lacks, and take out what was written in that place, to be written again behind it."""
    if not exported.sealed and not exported.tail:
        return PutBack()
    await lock_chain(unit)
    ours = await _beyond(unit, exported.common)
    for writer in sorted({entry.writer for entry in (*ours, *exported.entries)}):
        await lock_writer(unit, writer)
    stored = {_name(row) for row in ours}
    theirs = {_name(entry) for entry in exported.entries}
    strays = [row for row in ours if _name(row) not in theirs]
    lost = [entry for entry in exported.entries if _name(entry) not in stored]
    if not lost and not exported.sealed:
        return PutBack()  # it ends before the database does
    await _take_out(unit, exported.common, strays)
    if lost:
        rows = [{name: getattr(entry, name) for name in _WRITTEN} for entry in lost]
        await unit.execute(insert(audit_entries), rows)
    await _put_seals(unit, exported, newest)
    return PutBack(lost, strays)


async def write_again(
    unit: Unit, strays: Sequence[Any], moved: Mapping[int, int], audit_key: bytes, store: Store
) -> None:
    """Write what was taken out as new entries, with the numbers of revocations that it has by now."""
    for row in strays:
        detail = {**renumbered(row, moved), "happened_at": moment(row.at)}
        again = AuditEntry(row.kind, row.tenant_id, row.policy_id, detail)
        await AuditLog(store, row.writer, audit_key, unit.clock).append(unit, again)


def _name(entry: Any) -> tuple[str, int, bytes]:
    return entry.writer, entry.sequence, entry.mac


async def _beyond(reader: Reader, common: int) -> Sequence[Any]:
    """Return what the database holds beyond the seals that it shares with the export."""
    last = select(_seal.writer, func.max(_seal.last).label("last")).where(_seal.number <= common).group_by(_seal.writer)
    shared = last.subquery()
    joined = select(audit_entries).join(shared, shared.c.writer == _entry.writer, isouter=True)
    beyond = joined.where(_entry.sequence > func.coalesce(shared.c.last, 0))
    return await reader.rows(beyond.order_by(_entry.at, _entry.writer, _entry.sequence))


async def _take_out(unit: Unit, common: int, strays: Sequence[Any]) -> None:
    for row in strays:
        mine = (_entry.writer == row.writer, _entry.sequence == row.sequence)
        await unit.execute(delete(audit_entries).where(*mine))
    await unit.execute(delete(audit_seals).where(_seal.number > common))
    await unit.execute(delete(audit_checkpoints).where(_checkpoint.seal > common))


async def _put_seals(unit: Unit, exported: Exported, newest: Mark) -> None:
    seals = [
        {"head": sealed.head, **{name: getattr(sealed.run, name) for name in _SEALED}} for sealed in exported.sealed
    ]
    if seals:
        await unit.execute(insert(audit_seals), seals)
    last = exported.sealed[-1].run.number if exported.sealed else exported.common
    if newest.signed is not None and exported.common < newest.seal <= last:
        signed = {"statement": newest.signed.statement, "signature": newest.signed.signature}
        await unit.execute(insert(audit_checkpoints).values(seal=newest.seal, at=unit.clock.now(), **signed))
