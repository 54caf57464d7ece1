"""The consumer runtime: both halves of a handler, exactly once in effect, and stopping without a cut."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Row, String, Table, func, insert, select

from events import dead_letters
from events.attempt import AttemptSettings
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.context import DeliveryFields
from events.embedded import EmbeddedTransport
from events.handler import Received, Rejected, TryLater
from events.ladder import Ladder
from events.memory import MemoryBroker, MemoryTransport
from events.relay import Relay
from events.transport import Transport
from schemas.event import Event
from schemas.facts import AlertRaised, AssignmentWoken, DeliveryDeadLettered, ReencryptionWoken
from twinlock.clock import ManualClock
from twinlock.crashpoints import CrashPoint, arm, disarm
from twinlock.store.tables.bus import deliveries, outbox
from twinlock.store.unit import Cause, StaleRead, Store, Unit

ROUTES = {ReencryptionWoken.type: ("worker",), AssignmentWoken.type: ("worker",)}
LADDER = Ladder(tiers=(5.0, 30.0), jitter=lambda: 0.0)

effects = Table("effects", MetaData(), Column("event", String, nullable=False))


class Crash(BaseException):
    """Stand for a kill."""


class Work:
    """Write one row an event, and do before that whatever a test asks for."""

    consumer = "worker"
    handles: type[Event] = ReencryptionWoken

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.on_prepare: Callable[[], None] = lambda: None
        self.on_commit: Callable[[], None] = lambda: None
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def prepare(self, event: ReencryptionWoken, received: Received) -> str:
        """Pass the gate."""
        self.prepared.append(received.envelope.id)
        self.entered.set()
        await self.gate.wait()
        self.on_prepare()
        return received.envelope.id

    async def commit(self, unit: Unit, plan: str) -> None:
        """Write the row, with an event that follows from it."""
        await unit.execute(insert(effects).values(event=plan))
        unit.emit(AlertRaised.model_validate(ALERT), event_id=f"after-{plan}-{len(self.prepared)}")
        self.on_commit()


ALERT = {"kind": "k", "severity": "info", "audience": "engineering", "tenant": "provider", "detail": ""}


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture(autouse=True)
async def _effects(store: Store) -> None:
    async with store.engine.begin() as connection:
        await connection.run_sync(effects.metadata.create_all)


@pytest.fixture(params=["embedded", "memory"])
def transport(request: pytest.FixtureRequest, store: Store, clock: ManualClock) -> Transport:
    if request.param == "embedded":
        return EmbeddedTransport(store, clock, ROUTES)
    return MemoryTransport(MemoryBroker(clock, ROUTES))


@pytest.fixture
def embedded(store: Store, clock: ManualClock) -> EmbeddedTransport:
    return EmbeddedTransport(store, clock, ROUTES)


def runtime_of(store: Store, transport: Transport, work: Work, **attempt: float) -> ConsumerRuntime:
    settings = ConsumerSettings(concurrency=2, prefetch=4, attempt=AttemptSettings(pause=0.0, **attempt))  # type: ignore[arg-type]  # numbers of either kind
    return ConsumerRuntime(store, transport, [work], store.clock, LADDER, settings)


@asynccontextmanager
async def running(runtime: ConsumerRuntime) -> AsyncIterator[None]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(runtime.run())
        yield
        await runtime.drain(10.0)


async def publish(store: Store, transport: Transport, *ids: str) -> None:
    """Emit events, and let the relay bring them to the transport."""
    async with store.begin(Cause("c")) as unit:
        for event_id in ids:
            unit.emit(ReencryptionWoken(slot=0), event_id=event_id)
    await Relay(store, transport, store.clock).pass_once()


async def done(store: Store) -> list[str]:
    async with store.read() as reader:
        return [row.event for row in await reader.rows(select(effects.c.event))]


async def breathe() -> None:
    await asyncio.sleep(0)


async def until_done(store: Store, *ids: str) -> None:
    while sorted(await done(store)) != sorted(ids):
        await breathe()


async def letters(store: Store) -> Sequence[dead_letters.DeadLetter]:
    async with store.read() as reader:
        return await dead_letters.listing(reader)


async def until_letters(store: Store) -> Sequence[dead_letters.DeadLetter]:
    while not (found := await letters(store)):
        await breathe()
    return found


async def rows(store: Store, table: Table) -> int:
    async with store.read() as reader:
        count = await reader.scalar(select(func.count()).select_from(table))
    assert isinstance(count, int)
    return count


async def only_delivery(store: Store) -> Row[Any]:
    async with store.read() as reader:
        (row,) = await reader.rows(select(deliveries))
    return row


def times(count: int, error: Exception) -> Callable[[], None]:
    """Return an action that raises the first `count` times."""
    left = [error] * count

    def act() -> None:
        if left:
            raise left.pop()

    return act


async def test_effect_inbox_and_outbox_in_one(store: Store, transport: Transport, work: Work) -> None:
    """An event's effect and the events that follow are there together, and nothing is left to deliver."""
    async with running(runtime_of(store, transport, work)):
        await publish(store, transport, "a", "b")
        await until_done(store, "a", "b")

    assert 2 == await rows(store, outbox)
    assert 0 == await rows(store, deliveries)


async def test_duplicates_have_no_effect(store: Store, transport: Transport, work: Work) -> None:
    """An event that was handled is not even prepared again (law 11)."""
    async with running(runtime_of(store, transport, work)):
        await publish(store, transport, "a")
        await until_done(store, "a")
        await publish(store, transport, "a", "b")
        await until_done(store, "a", "b")

    assert ["a", "b"] == work.prepared


async def test_parallel_duplicates(store: Store, clock: ManualClock, work: Work) -> None:
    """Two copies at work at the same time have one effect between them (law 11)."""
    transport = MemoryTransport(MemoryBroker(clock, ROUTES))
    work.gate.clear()
    async with running(runtime_of(store, transport, work)):
        await publish(store, transport, "a")
        await publish(store, transport, "a")
        while len(work.prepared) < 2:
            await breathe()
        work.gate.set()
        await until_done(store, "a")

    assert ["a", "a"] == work.prepared
    assert ["a"] == await done(store)


@pytest.mark.parametrize(
    "point", [CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_COMMIT, CrashPoint.BEFORE_ACK, CrashPoint.AFTER_ACK]
)
async def test_crash(store: Store, transport: Transport, work: Work, point: CrashPoint) -> None:
    """A crash before, between or after commit and acknowledgement leaves exactly one effect (law 11)."""

    def die() -> None:
        raise Crash

    await publish(store, transport, "a")
    arm(point, die)
    with pytest.raises(BaseExceptionGroup):
        await runtime_of(store, transport, work).run()
    disarm()
    again = transport
    if isinstance(transport, EmbeddedTransport):
        again = EmbeddedTransport(store, store.clock, ROUTES)
    elif isinstance(transport, MemoryTransport):
        again = MemoryTransport(transport.broker)
    async with running(runtime_of(store, again, work)):
        await publish(store, again, "b")
        await until_done(store, "a", "b")

    assert ["a", "b"] == sorted(await done(store))


async def test_stale_read_starts_over(store: Store, transport: Transport, work: Work) -> None:
    """A stale read starts over from a fresh `prepare`, at once, and costs no attempt."""
    work.on_commit = times(5, StaleRead())
    async with running(runtime_of(store, transport, work)):
        await publish(store, transport, "a")
        await until_done(store, "a")

    assert ["a"] * 6 == work.prepared
    assert ["a"] == await done(store)


async def test_stale_for_ever(store: Store, embedded: EmbeddedTransport, work: Work, clock: ManualClock) -> None:
    """What is stale again and again climbs the ladder and ends as a dead letter."""
    work.on_commit = times(1000, StaleRead())
    async with running(runtime_of(store, embedded, work)):
        await publish(store, embedded, "a")
        found = await _letters_over_time(store, clock)

    assert ["StaleRead"] == [letter.reason for letter in found]
    assert [] == await done(store)


async def _letters_over_time(store: Store, clock: ManualClock) -> Sequence[dead_letters.DeadLetter]:
    while not (found := await letters(store)):
        if clock.sleepers:
            clock.advance(5.0)
    return found


async def test_trouble_in_process(store: Store, transport: Transport, work: Work) -> None:
    """A failure is tried a second time in the same process before the ladder."""
    work.on_prepare = times(1, OSError("gone"))
    async with running(runtime_of(store, transport, work)):
        await publish(store, transport, "a")
        await until_done(store, "a")

    assert ["a", "a"] == work.prepared


async def test_unforeseen_failure(
    store: Store, embedded: EmbeddedTransport, work: Work, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that always fails ends as a dead letter after the ladder; no reason and no log tells its message."""
    work.on_prepare = times(1000, ValueError("the key is hunter2"))
    async with running(runtime_of(store, embedded, work)):
        await publish(store, embedded, "a")
        (letter,) = await _letters_over_time(store, clock)

    assert ("ValueError", 3) == (letter.reason, letter.attempts)
    assert ["a"] * 6 == work.prepared
    assert "hunter2" not in caplog.text


async def test_rejected(store: Store, embedded: EmbeddedTransport, work: Work) -> None:
    """A rejected event is a dead letter at once, and the fleet and the engineers are told."""
    work.on_prepare = times(1, Rejected("mailbox-gone"))
    async with running(runtime_of(store, embedded, work)):
        await publish(store, embedded, "a")
        (letter,) = await until_letters(store)
    async with store.read() as reader:
        told = {row.type: row.correlation for row in await reader.rows(select(outbox))}

    assert ("worker", "a", "mailbox-gone", 1) == (letter.consumer, letter.id, letter.reason, letter.attempts)
    assert {DeliveryDeadLettered.type: "c", AlertRaised.type: "c"} == told


async def test_alerts_about_alerts(store: Store, clock: ManualClock) -> None:
    """A consumer that gives up on alerts raises none about them, or it would never end."""

    class Emitter(Work):
        handles = AlertRaised

    emitter = Emitter()
    emitter.on_prepare = times(1000, Rejected("no"))
    transport = EmbeddedTransport(store, clock, {AlertRaised.type: ("worker",)})
    async with running(runtime_of(store, transport, emitter)):
        async with store.begin(Cause("c")) as unit:
            unit.emit(AlertRaised.model_validate(ALERT))
        await Relay(store, transport, clock).pass_once()
        await until_letters(store)

    assert 0 == await rows(store, outbox)


async def test_try_later_waits(store: Store, embedded: EmbeddedTransport, work: Work, clock: ManualClock) -> None:
    """An event whose handler asks for later comes back after the handler's own delay, with its attempt counted."""
    work.on_prepare = times(1, TryLater("busy", delay=2.0))
    async with running(runtime_of(store, embedded, work)):
        await publish(store, embedded, "a")
        while (row := await only_delivery(store)).attempts == 0:
            await breathe()
        waited = (row.not_before - clock.now()).total_seconds()
        clock.advance(2.0)
        await until_done(store, "a")

    assert (1, 2.0) == (row.attempts, waited)


async def test_no_handler(store: Store, embedded: EmbeddedTransport, work: Work) -> None:
    """An event that a consumer gets and can't handle is a dead letter, never a silent acknowledgement."""
    async with running(runtime_of(store, embedded, work)):
        async with store.begin(Cause("c")) as unit:
            unit.emit(AssignmentWoken(slot=0))
        await Relay(store, embedded, store.clock).pass_once()
        (letter,) = await until_letters(store)

    assert "no-handler: the consumer does not handle events of this type" == letter.reason


async def test_deadline(store: Store, embedded: EmbeddedTransport, work: Work, clock: ManualClock) -> None:
    """A handler that does not finish in time is cut and tried again by the ladder, not in the process."""
    work.gate.clear()
    async with running(runtime_of(store, embedded, work, deadline=0.0)):
        await publish(store, embedded, "a")
        (letter,) = await _letters_over_time(store, clock)

    assert ("DeadlinePassed", 3) == (letter.reason, letter.attempts)


async def test_own_timeout_is_no_deadline(store: Store, transport: Transport, work: Work) -> None:
    """A timeout inside a handler is an ordinary failure."""
    work.on_prepare = times(1, TimeoutError())
    async with running(runtime_of(store, transport, work)):
        await publish(store, transport, "a")
        await until_done(store, "a")

    assert ["a", "a"] == work.prepared


async def test_stray_cancellation(store: Store, transport: Transport, work: Work) -> None:
    """A cancellation that nobody asked for is a failure like others and ends no consumer."""
    strays = [asyncio.CancelledError()]

    def stray() -> None:
        if strays:
            raise strays.pop()

    work.on_prepare = stray
    async with running(runtime_of(store, transport, work)):
        await publish(store, transport, "a")
        await until_done(store, "a")

    assert ["a", "a"] == work.prepared


async def test_drain_waits(store: Store, transport: Transport, work: Work) -> None:
    """Drain lets running deliveries finish and leaves the others untouched."""
    work.gate.clear()
    runtime = runtime_of(store, transport, work)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(runtime.run())
        await publish(store, transport, *"abcdef")
        while len(work.prepared) < 2:
            await breathe()
        draining = group.create_task(runtime.drain(30.0))
        await breathe()
        work.gate.set()
        await draining

    assert ["a", "b"] == sorted(await done(store))
    assert ["a", "b"] == sorted(work.prepared)


async def test_drain_cuts_after_the_grace(store: Store, transport: Transport, work: Work) -> None:
    """What still prepares after the grace time is cut, has no effect, and is there for the next process."""
    work.gate.clear()
    runtime = runtime_of(store, transport, work)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(runtime.run())
        await publish(store, transport, "a")
        await work.entered.wait()
        await runtime.drain(0.0)

    assert [] == await done(store)


async def test_cancellation_cuts_no_commit(store: Store, transport: Transport, work: Work) -> None:
    """A commit that has begun when everything is cancelled is finished, acknowledged, and only then does it end."""

    def cancel_runner() -> None:
        runner.cancel()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        runner = group.create_task(runtime_of(store, transport, work).run())
        work.on_commit = cancel_runner
        await publish(store, transport, "a")

    assert runner.cancelled()
    assert ["a"] == await done(store)
    if isinstance(transport, MemoryTransport):
        assert {} == transport.broker.waiting


async def test_silent_end_is_loud(store: Store, transport: Transport, work: Work) -> None:
    """A transport that stops delivering without a drain ends the runtime with an error."""
    await transport.drain()
    with pytest.raises(ExceptionGroup) as raised:
        await runtime_of(store, transport, work).run()

    assert raised.group_contains(RuntimeError, match="stopped delivering to worker")


async def test_drain_before_run(store: Store, transport: Transport, work: Work) -> None:
    """A runtime that is drained before it ran ends at once."""
    runtime = runtime_of(store, transport, work)
    await runtime.drain(1.0)
    await runtime.run()

    assert [] == work.prepared


async def test_settlement_trouble(
    store: Store, embedded: EmbeddedTransport, work: Work, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A settlement that fails is logged, the delivery comes again, and the consumer goes on."""
    failures = iter((None, lambda: arm(CrashPoint.BEFORE_COMMIT, times(1, OSError("no space on hunter2's disk")))))

    def fail() -> None:
        for before in failures:
            if before:
                before()
            raise OSError

    work.on_prepare = fail
    async with running(runtime_of(store, embedded, work)):
        await publish(store, embedded, "a")
        await until_done(store, "a")
        clock.advance(1.0)

    assert "a delivery can't be settled now: OSError" in caplog.messages
    assert "hunter2" not in caplog.text


async def test_two_handlers_for_one_event(store: Store, transport: Transport) -> None:
    """Two handlers of one consumer for one type are refused at the start."""
    with pytest.raises(ValueError, match="worker has two handlers for"):
        ConsumerRuntime(store, transport, [Work(), Work()], store.clock, LADDER)


async def test_log_lines_name_the_delivery(
    store: Store, transport: Transport, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """Every line logged while an event is handled names consumer, type, id and attempts, and no body."""
    caplog.handler.addFilter(DeliveryFields())
    work.on_prepare = lambda: logging.getLogger("elsewhere").warning("at work")
    async with running(runtime_of(store, transport, work)):
        await publish(store, transport, "a")
        await until_done(store, "a")
    logging.getLogger("elsewhere").warning("after work")
    fields = [
        tuple(record.__dict__[name] for name in ("consumer", "event_type", "event_id", "attempts"))
        for record in caplog.records
        if record.name == "elsewhere"
    ]

    assert [("worker", ReencryptionWoken.type, "a", 0), (None, None, None, None)] == fields
