"""Prune the audit log's past: up to a signed checkpoint, and only what an export has (law 15).

The cut is made in one transaction with the entry that records it; from then on nothing reads what lies before it, and
that is deleted little by little. Whoever is cut off goes on with the next call.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, delete, func, insert, select

from twinlock.custody.audit.chain import Signed
from twinlock.custody.audit.cut import PRUNED, Cut, checked_cut, digest_of
from twinlock.custody.audit.exported import BadExport, read_export
from twinlock.custody.audit.inspection import Inspection
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar, is_genuine
from twinlock.custody.audit.sealing import is_broken, lock_chain
from twinlock.custody.revocation.mark import Mark
from twinlock.errors import TwinlockError
from twinlock.store.pruning import prune
from twinlock.store.tables.custody import audit_checkpoints, audit_cuts, audit_entries, audit_seals
from twinlock.store.unit import Cause, Reader, Store, new_id

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

BATCH = 50  # seals of a transaction, each with some seconds' worth of entries
_HINT = "see to it first: twinlock audit verify"

_entry, _seal, _checkpoint = audit_entries.c, audit_seals.c, audit_checkpoints.c


@dataclass(frozen=True, slots=True)
class Pruned:
    """Say how many entries went, and behind which seal the log begins now, if not with its first entry."""

    removed: int
    begins: Cut | None


@dataclass(frozen=True, slots=True)
class Pruning:
    """Prune the log of one installation."""

    store: Store
    audit: AuditLog
    audit_key: bytes
    public: bytes

    async def prune(self, cause: Cause, lines: Iterable[str], before: datetime) -> Pruned:
        """Prune what is older than a moment, given the lines of an export that has it.

        Raise `BadExport` unless all that is to go is in it, genuine and as signed; and where the log is broken, for
        what is left of it may show how.
        """
        signed = await self._due(before)
        if signed is not None:
            digest = sha256()
            wanted = await self._proven(_digesting(lines, digest), signed)
            await self._cut(cause, wanted, digest.hexdigest())
        async with self.store.read() as reader:
            cut = await self._made(reader)
        return Pruned(await remove(self.store, cut) if cut else 0, cut)

    async def _made(self, reader: Reader) -> Cut | None:
        return await checked_cut(reader, self.audit_key, self.public)

    async def _due(self, before: datetime) -> Signed | None:
        """Return the newest checkpoint that is old enough, as all is that it covers, or none where nothing is due."""
        async with self.store.read() as reader:
            if await is_broken(reader):
                raise TwinlockError("the audit log is not intact", hint=_HINT)
            made = await self._made(reader)
            behind = _checkpoint.seal > (made.seal if made else 0)
            # Clocks step: what follows a young one is not old, whatever it says.
            young = await reader.scalar(select(func.min(_checkpoint.seal)).where(_checkpoint.at >= before, behind))
            old = behind if young is None else _checkpoint.seal < young
            newest = select(audit_checkpoints).where(behind, old).order_by(_checkpoint.seal.desc()).limit(1)
            row = await reader.row(newest)
        if row is None:
            return None
        if datetime.fromisoformat(json.loads(row.statement)["at"]) >= before:  # a restore's row is the younger
            raise TwinlockError(f"the checkpoint of seal {row.seal} is not as old as its row says", hint=_HINT)
        return Signed(row.statement, row.signature)

    async def _proven(self, lines: Iterable[str], signed: Signed) -> Cut:
        wanted = Cut.of(signed, None)
        async with self.store.read() as reader:
            inspection = Inspection(self.audit_key, self.public)
            made = await self._made(reader)
            exported = await read_export(reader, lines, inspection, Mark(0, signed))
        if exported.begins > (made.seal if made else 0):
            raise BadExport(f"it begins behind seal {exported.begins}, and the database's log before that")
        if exported.common < wanted.seal or exported.sealed:
            raise BadExport("it is not of this database")
        return wanted

    async def _cut(self, cause: Cause, wanted: Cut, export: str) -> None:
        async with self.store.begin(cause) as unit:
            await lock_chain(unit)
            made = await self._made(unit)
            if made is not None and made.seal >= wanted.seal:
                return  # somebody else was faster
            await _refuse_changed(unit, wanted)
            said: dict[str, Scalar] = {"seal": wanted.seal, "head": wanted.head.hex(), "entries": wanted.entries}
            # the SHA-256 of the file that has the past, and of what stays of it
            said |= {"export": export, "kept": digest_of(await self._stays(unit, wanted)), "sender": unit.sender}
            sequence = await self.audit.append(unit, AuditEntry(PRUNED, None, None, said))
            await unit.execute(insert(audit_cuts).values(seal=wanted.seal, writer=self.audit.writer, sequence=sequence))

    async def _stays(self, reader: Reader, cut: Cut) -> Sequence[Row[Any]]:
        """Return each writer's last entry before a cut; raise where one is gone, or is not as it was written."""
        found = [
            await reader.row(select(audit_entries).where(_entry.writer == writer, _entry.sequence == place))
            for writer, place in cut.positions.items()
        ]
        genuine = [row for row in found if row is not None and is_genuine(self.audit_key, row)]
        if len(genuine) < len(found):
            raise TwinlockError("the audit log is not intact", hint=_HINT)
        return genuine


def _digesting(lines: Iterable[str], digest: "Hash") -> Iterator[str]:
    for line in lines:
        digest.update(line.encode())
        yield line


async def _refuse_changed(reader: Reader, wanted: Cut) -> None:
    """Raise where the chain is another one than when it was held against the export, as after a restore."""
    head = await reader.scalar(select(_seal.head).where(_seal.number == wanted.seal))
    signed = await reader.scalar(select(_checkpoint.signature).where(_checkpoint.seal == wanted.seal))
    if await is_broken(reader) or head != wanted.head or signed != wanted.signed.signature:
        raise TwinlockError("the audit log has changed meanwhile", hint="repeat it")


async def remove(store: Store, cut: Cut) -> int:
    """Delete what lies before a cut, and return how many entries that were.

    Of every writer its last entry and seal stay: they say which number is next, also of one that is silent for years.
    """
    gone = after = 0
    while seals := await _next(store, after, cut.seal):
        gone += await _remove(store, seals, cut)
        after = seals[-1].number
    await prune(store, _checkpoint.seal, cut.seal)
    return gone


async def _next(store: Store, after: int, last: int) -> Sequence[Row[Any]]:
    async with store.read() as reader:
        old = select(audit_seals).where(_seal.number > after, _seal.number <= last)
        return await reader.rows(old.order_by(_seal.number).limit(BATCH))


async def _remove(store: Store, seals: Sequence[Row[Any]], cut: Cut) -> int:
    gone = 0
    async with store.begin(Cause(new_id())) as unit:
        for seal in seals:
            place = cut.positions.get(seal.writer)
            if place is None:
                raise TwinlockError("the audit log is not intact", hint=_HINT)
            covered = (_entry.writer == seal.writer, _entry.sequence.between(seal.first, min(seal.last, place - 1)))
            gone += (await unit.execute(delete(audit_entries).where(*covered))).rowcount
        numbers = [seal.number for seal in seals if seal.last != cut.positions[seal.writer]]
        await unit.execute(delete(audit_seals).where(_seal.number.in_(numbers)))
    return gone
