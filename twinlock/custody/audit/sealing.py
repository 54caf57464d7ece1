"""The sealer: it chains the entries of all writers, and signs how far it is (law 15).

It holds the key of the checkpoints and not that of the entries' MACs: to rewrite the past takes both. A pass is one
transaction under the lock of the lease's row, so that nothing of a sealer that was stopped half-way, or of a second
one, is ever in the chain; the lease only keeps others from waiting for that lock. A checkpoint is committed together
with the seals that it signs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, func, insert, select, update

from schemas.facts import AlertRaised, AuditCheckpointed
from schemas.identifiers import MAX_DETAIL, PROVIDER, Audience, Severity
from twinlock.custody.audit.chain import GENESIS, Run, Signed, link, moment, sign
from twinlock.keys.signing import SigningKey, fingerprint
from twinlock.store.once import insert_once
from twinlock.store.tables.custody import audit_checkpoints, audit_entries, audit_sealing, audit_seals
from twinlock.store.unit import Cause, Reader, Store, Unit, new_id

LEASE_SECONDS = 15.0
BATCH = 2000  # entries of a seal at most: what a transaction reads stays small

_ONE = "chain"
_entry, _seal, _checkpoint, _sealing = audit_entries.c, audit_seals.c, audit_checkpoints.c, audit_sealing.c


@dataclass(slots=True)
class State:
    """Hold how far the chain is."""

    run: Run | None
    head: bytes
    positions: dict[str, int]
    signed: int
    signed_at: datetime | None

    @property
    def number(self) -> int:
        """Return the number of the last seal."""
        return self.run.number if self.run else 0

    @property
    def entries(self) -> int:
        """Return how many entries are sealed."""
        return self.run.entries if self.run else 0


async def read_state(reader: Reader) -> State:
    """Read how far the chain is, at a few look-ups for each writer however long the log is."""
    last = await reader.row(select(audit_seals).order_by(_seal.number.desc()).limit(1))
    signed = await reader.row(select(_checkpoint.seal, _checkpoint.at).order_by(_checkpoint.seal.desc()).limit(1))
    positions = {
        writer: await reader.scalar(select(func.max(_seal.last)).where(_seal.writer == writer))
        for writer in await writers(reader, audit_seals)
    }
    run = Run(last.number, last.writer, last.first, last.last, last.at, last.entries) if last else None
    at = (signed.seal, signed.at) if signed else (0, None)
    return State(run, last.head if last else GENESIS, positions, *at)


async def writers(reader: Reader, table: Table) -> list[str]:
    """Return every writer in a table, each found in its index without reading what lies between."""
    found: list[str] = []
    query = select(func.min(table.c.writer))
    writer = await reader.scalar(query)
    while writer is not None:
        found.append(writer)
        writer = await reader.scalar(query.where(table.c.writer > writer))
    return found


class Sealer:
    """Seal for one process; where it `publishes`, every checkpoint is an event, and there is always a fresh one."""

    def __init__(
        self, store: Store, key: SigningKey, owner: str, *, publishes: bool = False, checkpoint_seconds: float = 30.0
    ) -> None:
        self._store = store
        self._key = key
        self._owner = owner
        self._publishes = publishes
        self._fresh = timedelta(seconds=checkpoint_seconds)

    async def pass_once(self, *, insist: bool = False) -> None:
        """Seal what is not sealed, and sign it; unless it is to `insist`, leave that to another who has the lease.

        Whoever insists takes the lease from nobody: it ends before the lease's holder would look again.
        """
        while await self._is_due() and await self._pass(insist):
            pass

    async def _is_due(self) -> bool:
        if self._publishes:
            return True  # its lease tells that it is there
        async with self._store.read() as reader:
            state = await read_state(reader)
            return (
                state.signed < state.number
                or await is_untold(reader)
                or bool(await _lost(reader, state.positions))
                or await _has_tail(reader, state.positions)
            )

    async def _pass(self, insist: bool) -> bool:
        """Say whether there is more to seal."""
        async with self._store.begin(Cause(new_id())) as unit:
            if not await self._may(unit, insist):
                return False
            state = await read_state(unit)
            if lost := await _lost(unit, state.positions):
                await note_broken(unit, lost)
            count = await _seal_all(unit, state)
            if state.run and (state.signed < state.number or self._is_stale(state, unit)):
                await self._sign(unit, state, state.run)
            await announce(unit)
        return count >= BATCH

    def _is_stale(self, state: State, unit: Unit) -> bool:
        last = state.signed_at
        return self._publishes and (last is None or unit.clock.now() - last >= self._fresh)

    async def _may(self, unit: Unit, insist: bool) -> bool:
        lease = select(audit_sealing).where(_sealing.name == _ONE).with_for_update(skip_locked=not insist)
        row = await unit.row(lease)
        if row is None:
            await unit.execute(_first(unit))
            row = await unit.row(lease)
        now = unit.clock.now()
        if insist or row is None:
            return insist
        if row.owner not in (None, self._owner) and row.until > now:
            return False
        until = now + timedelta(seconds=LEASE_SECONDS)
        await unit.execute(_lease().values(owner=self._owner, until=until))
        return True

    async def _sign(self, unit: Unit, state: State, run: Run) -> None:
        at = unit.clock.now()
        signed = sign(self._key, run, state.head, state.positions, at)
        values: dict[str, Any] = {"at": at, "statement": signed.statement, "signature": signed.signature}
        if state.signed == run.number:
            await unit.execute(update(audit_checkpoints).where(_checkpoint.seal == run.number).values(values))
        else:
            await unit.execute(insert(audit_checkpoints).values(seal=run.number, **values))
        if self._publishes:
            unit.emit(self._event(state, run, at, signed))

    def _event(self, state: State, run: Run, at: datetime, signed: Signed) -> AuditCheckpointed:
        return AuditCheckpointed(
            seal=run.number,
            head=state.head.hex(),
            entries=run.entries,
            positions=state.positions,
            at=moment(at),
            key=fingerprint(self._key.public).hex(),
            signature=signed.signature.hex(),
        )


async def _seal_all(unit: Unit, state: State) -> int:
    """Chain what is new, a run of every writer, and return the length of the longest."""
    longest = 0
    for writer in await writers(unit, audit_entries):
        place = state.positions.get(writer, 0)
        query = select(_entry.sequence, _entry.mac).where(_entry.writer == writer, _entry.sequence > place)
        rows = await unit.rows(query.order_by(_entry.sequence).limit(BATCH))
        if rows and rows[0].sequence != place + 1:
            await note_broken(unit, f"entry {place + 1} of {writer} is missing")
        whole = [row for step, row in enumerate(rows) if row.sequence == rows[0].sequence + step]
        longest = max(longest, len(whole) if len(whole) == len(rows) else BATCH)
        if whole:
            await _seal_run(unit, state, writer, whole)
    return longest


async def _seal_run(unit: Unit, state: State, writer: str, rows: list[Row[Any]]) -> None:
    first, last, at = rows[0].sequence, rows[-1].sequence, unit.clock.now()
    run = Run(state.number + 1, writer, first, last, at, state.entries + len(rows))
    state.head = link(state.head, run, (row.mac for row in rows))
    state.run = run
    state.positions[writer] = last
    await unit.execute(
        insert(audit_seals).values(
            number=run.number, writer=writer, first=first, last=last, at=at, entries=run.entries, head=state.head
        )
    )


async def _has_tail(reader: Reader, positions: Mapping[str, int]) -> bool:
    for writer in await writers(reader, audit_entries):
        if await reader.scalar(_newest(writer)) > positions.get(writer, 0):
            return True
    return False


async def _lost(reader: Reader, positions: Mapping[str, int]) -> str:
    """Say which writer's entries end before its seals do, or nothing."""
    for writer, place in positions.items():
        if (await reader.scalar(_newest(writer)) or 0) < place and not await is_broken(reader):
            return f"entry {place} of {writer} was sealed and is missing"
    return ""


def _newest(writer: str) -> Any:
    return select(func.max(_entry.sequence)).where(_entry.writer == writer)


async def lock_chain(unit: Unit) -> None:
    """Keep every sealer out for the rest of the transaction."""
    await unit.execute(_first(unit))
    await unit.row(select(audit_sealing).where(_sealing.name == _ONE).with_for_update())


async def note_broken(unit: Unit, detail: str) -> None:
    """Keep that the log was found broken, until somebody finds it intact: the first break is the one that is told."""
    await unit.execute(_first(unit))
    await unit.execute(_lease(_sealing.broken.is_(None)).values(broken=detail[:MAX_DETAIL], told=False))


async def note_intact(unit: Unit) -> None:
    """Keep that the whole log was found intact; another break is another episode."""
    await unit.execute(_lease(_sealing.broken.is_not(None)).values(broken=None, told=False))


async def announce(unit: Unit) -> None:
    """Raise the alert of a break, once."""
    told = _lease(_sealing.broken.is_not(None), _sealing.told.is_(False)).values(told=True)
    row = await unit.row(told.returning(_sealing.broken))
    if row is not None:
        unit.emit(
            AlertRaised(
                kind="audit-broken",
                severity=Severity.CRITICAL,
                audience=Audience.ENGINEERING,
                tenant=PROVIDER,
                detail=f"the audit log is not intact: {row.broken}",
            )
        )


async def is_untold(reader: Reader) -> bool:
    """Say whether a break was found that no alert tells of yet."""
    return await reader.scalar(select(_sealing.told).where(_sealing.broken.is_not(None))) is False


async def holder(reader: Reader, now: datetime) -> str | None:
    """Return which sealer has the lease now, if any."""
    owner: str | None = await reader.scalar(select(_sealing.owner).where(_sealing.until > now))
    return owner


async def is_broken(reader: Reader) -> bool:
    """Say whether the log was found broken, and by nobody intact since."""
    return await reader.scalar(select(_sealing.broken)) is not None


def _first(unit: Unit) -> Any:
    row = {"name": _ONE, "owner": None, "until": None, "broken": None, "told": False}
    return insert_once(unit, audit_sealing).values(row)


def _lease(*conditions: ColumnElement[bool]) -> Any:
    return update(audit_sealing).where(_sealing.name == _ONE, *conditions)
