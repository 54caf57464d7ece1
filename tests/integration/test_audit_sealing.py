"""The sealer and the inspection on real databases: several sealers, crashes, and whatever is done to the tables."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Update, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from schemas.envelope import parse
from schemas.event import Event
from schemas.facts import AlertRaised, AuditCheckpointed
from tests.conftest import OpenStore
from twinlock.clock import ManualClock
from twinlock.crashpoints import CrashPoint, arm, disarm
from twinlock.custody.audit import sealing
from twinlock.custody.audit.chain import Signed
from twinlock.custody.audit.inspection import Inspection
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.audit.reading import inspect, newest_checkpoint, running_since
from twinlock.custody.audit.sealing import LEASE_SECONDS, Sealer, holder
from twinlock.keys.signing import SigningKey
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.custody import audit_checkpoints, audit_entries, audit_seals, custodians
from twinlock.store.unit import Cause, Store

KEY, SIGNER = bytes(range(32)), SigningKey.generate()
CAUSE = Cause("test")


class Crash(BaseException):
    """End a sealer at a crash point."""


def sealer(store: Store, owner: str = "one", *, publishes: bool = False) -> Sealer:
    return Sealer(store, SIGNER, owner, publishes=publishes)


async def write(store: Store, writer: str, count: int = 1) -> None:
    """Write entries as a writer does."""
    log = AuditLog(store, writer, KEY, store.clock)
    await log.record(*(AuditEntry("key-opened", "acme", None, {"number": number}) for number in range(count)))


async def inspected(store: Store, kept: dict[int, Signed] | None = None) -> Inspection:
    inspection = Inspection(KEY, SIGNER.public)
    async with store.read() as reader:
        await inspect(reader, inspection, kept)
    return inspection


async def told(store: Store, kind: type[Event]) -> list[Any]:
    async with store.read() as reader:
        bodies = await reader.rows(select(outbox.c.body).order_by(outbox.c.number))
    return [event for event in (parse(row.body)[1] for row in bodies) if isinstance(event, kind)]


async def seals(store: Store) -> Sequence[tuple[str, int, int]]:
    query = select(audit_seals.c.writer, audit_seals.c.first, audit_seals.c.last).order_by(audit_seals.c.number)
    async with store.read() as reader:
        return [tuple(row) for row in await reader.rows(query)]


async def tampered(store: Store, *changes: Any) -> None:
    async with store.begin(CAUSE) as unit:
        for change in changes:
            await unit.execute(change)


async def test_law_15_chained(store: Store) -> None:
    """Law 15: a pass chains what every writer wrote since the last one, and signs it in the same transaction."""
    await write(store, "a", 3)
    await write(store, "b")
    await sealer(store).pass_once()
    await write(store, "a", 2)
    await sealer(store).pass_once()
    await sealer(store).pass_once()
    inspection = await inspected(store)

    assert [("a", 1, 3), ("b", 1, 1), ("a", 4, 5)] == await seals(store)
    assert (True, 6, 3, 0) == (inspection.intact, inspection.entries, inspection.seals, inspection.unsealed)


async def test_law_15_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 15: a long tail is sealed in bounded transactions, until nothing is left."""
    monkeypatch.setattr(sealing, "BATCH", 4)
    await write(store, "a", 10)
    await sealer(store).pass_once()

    assert [("a", 1, 4), ("a", 5, 8), ("a", 9, 10)] == await seals(store)
    assert (await inspected(store)).intact


async def test_law_15_two_sealers(store: Store, open_store: OpenStore) -> None:
    """Law 15: sealers at the same time, one of which insists, seal everything once while entries come in."""
    stores = [await open_store() for _ in range(3)]

    async def writes(own: Store, writer: str) -> None:
        for _ in range(8):
            await write(own, writer, 2)

    async def seal(own: Store, owner: str, insist: bool) -> None:
        for _ in range(8):
            await sealer(own, owner).pass_once(insist=insist)

    async with asyncio.TaskGroup() as group:
        for number, own in enumerate(stores):
            group.create_task(writes(own, f"writer-{number}"))
            group.create_task(seal(own, f"sealer-{number}", number == 0))
    await sealer(store).pass_once(insist=True)
    inspection = await inspected(store)

    assert [] == inspection.breaks
    assert (48, 0) == (inspection.entries, inspection.unsealed)


async def test_law_15_lease(store: Store, clock: ManualClock) -> None:
    """Law 15: who has the lease seals, others stand by until it lapses; who insists seals, and takes it from nobody."""
    first, second = sealer(store, "first", publishes=True), sealer(store, "second", publishes=True)
    await first.pass_once()
    await write(store, "a")
    await second.pass_once()
    async with store.read() as reader:
        held = await holder(reader, clock.now())

    assert ("first", []) == (held, await seals(store))

    await second.pass_once(insist=True)
    await write(store, "a")
    await first.pass_once()
    clock.advance(LEASE_SECONDS)
    await write(store, "a")
    async with store.read() as reader:
        assert await holder(reader, clock.now()) is None
    await second.pass_once()

    assert [("a", 1, 1), ("a", 2, 2), ("a", 3, 3)] == await seals(store)
    assert (await inspected(store)).intact


@pytest.mark.parametrize("point", [CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_COMMIT])
async def test_law_15_crash(store: Store, point: CrashPoint) -> None:
    """Law 15: a sealer that dies leaves seals with their checkpoint, or neither, and the next one goes on."""
    await write(store, "a", 3)

    def crash() -> None:
        raise Crash

    arm(point, crash)
    with pytest.raises(Crash):
        await sealer(store, publishes=True).pass_once()
    disarm()
    left = await inspected(store)

    assert left.intact
    assert (point is CrashPoint.BEFORE_COMMIT) == (left.seals == 0)

    await write(store, "a")
    await sealer(store, publishes=True).pass_once()
    after = await inspected(store)

    assert (True, 0) == (after.intact, after.unsealed)


async def test_law_15_published(store: Store, clock: ManualClock) -> None:
    """Law 15: what is sealed is told at once, and where nothing happens a fresh checkpoint follows within a minute."""
    one = sealer(store, publishes=True)
    await one.pass_once()
    await write(store, "a", 2)
    await one.pass_once()
    await one.pass_once()
    clock.advance(30.0)
    await one.pass_once()
    events = await told(store, AuditCheckpointed)

    assert [(1, 2, {"a": 2})] * 2 == [(event.seal, event.entries, dict(event.positions)) for event in events]
    assert events[0].at < events[1].at
    assert (await inspected(store)).intact


async def test_law_15_subscriber_finds_truncation(store: Store) -> None:
    """Law 15: a log that was cut back to an older checkpoint is found with one that somebody kept."""
    await write(store, "a", 2)
    await sealer(store).pass_once()
    await write(store, "a", 2)
    await sealer(store).pass_once()
    async with store.read() as reader:
        signed = await newest_checkpoint(reader)
    assert signed is not None
    await tampered(
        store,
        delete(audit_entries).where(audit_entries.c.sequence > 2),
        delete(audit_seals).where(audit_seals.c.number > 1),
        delete(audit_checkpoints).where(audit_checkpoints.c.seal > 1),
    )

    assert (await inspected(store)).intact
    assert "seal 2 is missing, and a checkpoint tells of it" == str((await inspected(store, {2: signed})).breaks[0])


def _entry(number: int, **values: Any) -> Update:
    return update(audit_entries).where(audit_entries.c.writer == "a", audit_entries.c.sequence == number).values(values)


TAMPERING = {
    "edited": (_entry(2, kind="nothing"), "entry 2 of a is not as its writer left it"),
    "float": (_entry(2, detail={"number": 0.5}), "entry 2 of a is not as its writer left it"),
    "moved": (_entry(2, sequence=9), "entry 2 of a is missing"),
    "negative": (_entry(2, sequence=-2), "entry 2 of a is missing"),
    "deleted": (delete(audit_entries).where(audit_entries.c.sequence == 3), "entry 3 of a is missing"),
    "all": (delete(audit_entries), "entry 1 of a is missing"),
    "seal": (update(audit_seals).values(entries=7), "seal 1 does not fit the entries that it covers"),
    "no-seals": (delete(audit_seals), "seal 1 is missing, and a checkpoint tells of it"),
    "no-checkpoint": (delete(audit_checkpoints), "seal 1 is not signed by a checkpoint"),
    "signature": (update(audit_checkpoints).values(signature=bytes(64)), "seal 1 is not what a checkpoint says of it"),
    "wide": (update(audit_seals).values(last=2**40), "entry 5 of a is missing"),
}


@pytest.mark.parametrize("name", TAMPERING)
async def test_law_15_tampering(store: Store, name: str) -> None:
    """Law 15: what is done to the tables is found, and named."""
    change, says = TAMPERING[name]
    await write(store, "a", 4)
    await sealer(store).pass_once()
    await tampered(store, change)

    assert says == str((await inspected(store)).breaks[0])


@pytest.mark.parametrize("change", ["detail = '{'", "at = 'soon'"])
async def test_law_15_unreadable(store: Store, change: str) -> None:
    """Law 15: an entry into which something was written that can't be read is found like any other edit."""
    await write(store, "a", 3)
    await sealer(store).pass_once()
    written = text(f"UPDATE audit_entries SET {change} WHERE sequence = 2")  # noqa: S608  # ours
    if store.engine.dialect.name == "postgresql":
        with pytest.raises(DBAPIError):  # its columns take nothing else
            await tampered(store, written)
        return
    await tampered(store, written)

    assert ["entry 2 of a is not as its writer left it"] == [str(each) for each in (await inspected(store)).breaks]


async def test_law_15_gap_is_told_once(store: Store) -> None:
    """Law 15: a gap in what is not sealed yet raises one alert, and what comes after it is sealed all the same."""
    await write(store, "a", 4)
    await tampered(store, delete(audit_entries).where(audit_entries.c.sequence == 2))
    for _ in range(3):
        await sealer(store, publishes=True).pass_once()
    alerts = await told(store, AlertRaised)

    assert [("audit-broken", "critical", "engineering")] == [(a.kind, a.severity, a.audience) for a in alerts]
    assert "the audit log is not intact: entry 2 of a is missing" == alerts[0].detail
    assert [("a", 1, 1), ("a", 3, 4)] == await seals(store)
    assert "entry 2 of a is missing" == str((await inspected(store)).breaks[0])


async def test_law_15_lost_tail_is_told(store: Store) -> None:
    """Law 15: sealed entries that are gone at a writer's end raise the alert at the next pass."""
    await write(store, "a", 2)
    await sealer(store).pass_once()
    await tampered(store, delete(audit_entries).where(audit_entries.c.sequence == 2))
    for _ in range(2):
        await sealer(store).pass_once()
    (alert,) = await told(store, AlertRaised)

    assert "the audit log is not intact: entry 2 of a was sealed and is missing" == alert.detail


async def test_another_episode(store: Store) -> None:
    """After somebody has found the log intact, the next break is told again."""
    for detail in ("first", "first again"):
        async with store.begin(CAUSE) as unit:
            await sealing.note_broken(unit, detail)
            await sealing.announce(unit)
    async with store.begin(CAUSE) as unit:
        await sealing.note_intact(unit)
        await sealing.note_broken(unit, "second")
    await sealer(store).pass_once()

    assert ["the audit log is not intact: first", "the audit log is not intact: second"] == [
        alert.detail for alert in await told(store, AlertRaised)
    ]


async def test_law_15_nothing_to_do(store: Store) -> None:
    """Law 15: a pass of a home in which nothing happened writes nothing, so that it costs no command anything."""
    await write(store, "a")
    await sealer(store).pass_once()
    written = await _lines(store)
    for _ in range(3):
        await sealer(store, "another").pass_once(insist=True)

    assert written == await _lines(store)


async def _lines(store: Store) -> tuple[Any, ...]:
    async with store.read() as reader:
        tables = (audit_seals, audit_checkpoints, outbox)
        return tuple([await reader.scalar(select(func.count()).select_from(table)) for table in tables])


async def test_running_since(store: Store, clock: ManualClock) -> None:
    """Only custodians that confirmed lately count as running."""
    start = clock.now()
    rows = [
        {"instance": name, "name": "c", "epoch": 0, "confirmed_at": at, "registered_at": at, "report": {}}
        for name, at in (("gone", start), ("alive", start + timedelta(seconds=90)))
    ]
    await tampered(store, insert(custodians).values(rows))
    async with store.read() as reader:
        found = await running_since(reader, start + timedelta(seconds=60))
        none = await running_since(reader, start + timedelta(seconds=100))

    assert (start + timedelta(seconds=90), None) == (found, none)
