"""The relay between outbox and transport."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select

from events.embedded import EmbeddedTransport
from events.memory import MemoryBroker, MemoryTransport
from events.relay import Relay, RelaySettings
from events.transport import Message, Transport
from schemas.facts import RequestAnswered
from schemas.identifiers import RequestOutcome
from twinlock.clock import ManualClock
from twinlock.crashpoints import CrashPoint, arm, disarm
from twinlock.store.tables.bus import deliveries, outbox
from twinlock.store.unit import Cause, Store

ROUTES = {RequestAnswered.type: ("one", "two")}


class Crash(BaseException):
    """Stand for a kill."""


class Picky(MemoryTransport):
    """Take only what is in `takes`, and fail as often as `failures` says."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.takes: set[str] | None = None
        self.failures = 0
        self.calls = 0
        self.published: list[str] = []

    async def publish(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Publish as a broker in trouble does."""
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the broker is gone")
        taken = [message for message in messages if self.takes is None or message.id in self.takes]
        self.published += [message.id for message in taken]
        return await super().publish(taken)


@pytest.fixture
def picky(clock: ManualClock) -> Picky:
    return Picky(MemoryBroker(clock, ROUTES))


@pytest.fixture(params=["embedded", "memory"])
def transport(request: pytest.FixtureRequest, store: Store, clock: ManualClock) -> Transport:
    if request.param == "embedded":
        return EmbeddedTransport(store, clock, ROUTES)
    return MemoryTransport(MemoryBroker(clock, ROUTES))


async def emit(store: Store, *ids: str) -> None:
    async with store.begin(Cause("c")) as unit:
        for event_id in ids:
            answered = RequestAnswered(
                request="r", request_source="urn:x", request_type="t", outcome=RequestOutcome.DONE, detail=""
            )
            unit.emit(answered, event_id=event_id)


async def left(store: Store) -> list[str]:
    async with store.read() as reader:
        return [row.id for row in await reader.rows(select(outbox.c.id).order_by(outbox.c.number))]


async def test_empties_the_outbox(store: Store, clock: ManualClock, transport: Transport) -> None:
    """What was taken is gone from the outbox, and a second pass has nothing to do."""
    relay = Relay(store, transport, clock)
    await emit(store, "a", "b", "c")

    assert 3 == await relay.pass_once()
    assert [] == await left(store)
    assert 0 == await relay.pass_once()


async def test_batches_in_order(store: Store, clock: ManualClock, picky: Picky) -> None:
    """One pass offers every row, by number, a batch at a time."""
    relay = Relay(store, picky, clock, RelaySettings(batch=2))
    await emit(store, *"abcde")

    assert 5 == await relay.pass_once()
    assert list("abcde") == picky.published
    assert 3 == picky.calls


async def test_untaken_rows_stay(store: Store, clock: ManualClock, picky: Picky) -> None:
    """What the transport does not take stays, and holds up nothing behind it."""
    relay = Relay(store, picky, clock, RelaySettings(batch=2))
    await emit(store, *"abcde")
    picky.takes = {"d", "e"}

    assert 2 == await relay.pass_once()
    assert ["a", "b", "c"] == await left(store)


@pytest.mark.parametrize("point", [CrashPoint.BEFORE_DISPATCH, CrashPoint.AFTER_DISPATCH, CrashPoint.AFTER_MARK])
async def test_crash(store: Store, clock: ManualClock, transport: Transport, point: CrashPoint) -> None:
    """A crash anywhere in a pass loses nothing: the next pass finds what is not marked (law 11)."""

    def die() -> None:
        raise Crash

    relay = Relay(store, transport, clock)
    await emit(store, "a")
    arm(point, die)
    with pytest.raises(Crash):
        await relay.pass_once()
    disarm()
    await relay.pass_once()

    incoming = await anext(transport.deliveries("one", 1))

    assert "a" == incoming.message.id
    assert [] == await left(store)


async def test_embedded_takes_and_marks_at_once(store: Store, clock: ManualClock) -> None:
    """On the embedded transport a crash between dispatch and mark leaves neither a delivery nor a duplicate."""

    def die() -> None:
        raise Crash

    await emit(store, "a")
    arm(CrashPoint.AFTER_DISPATCH, die)
    with pytest.raises(Crash):
        await Relay(store, EmbeddedTransport(store, clock, ROUTES), clock).pass_once()

    async with store.read() as reader:
        assert 0 == await reader.scalar(select(func.count()).select_from(deliveries))
    assert ["a"] == await left(store)


async def test_run_wakes_by_commit(store: Store, clock: ManualClock, transport: Transport) -> None:
    """The running relay moves an event as soon as its commit is through, without any time passing."""
    one = transport.deliveries("one", 1)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(Relay(store, transport, clock).run())
        await emit(store, "a")
        incoming = await anext(one)
        running.cancel()

    assert "a" == incoming.message.id


async def test_run_polls(store: Store, clock: ManualClock, picky: Picky) -> None:
    """The running relay finds what another process wrote when its poll is due."""
    one = picky.deliveries("one", 1)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(Relay(store, picky, clock).run())
        while clock.sleepers == 0:
            await left(store)
        await emit(Store(store.engine, clock, "urn:twinlock:other"), "a")
        clock.advance(0.2)
        incoming = await anext(one)
        running.cancel()

    assert "a" == incoming.message.id


async def test_run_survives_trouble(
    store: Store, clock: ManualClock, picky: Picky, caplog: pytest.LogCaptureFixture
) -> None:
    """Trouble slows the relay down, is logged without what it said, and ends when the transport answers again."""
    picky.failures = 2
    await emit(store, "a")
    one = picky.deliveries("one", 1)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(Relay(store, picky, clock, jitter=lambda: 0.0).run())
        for pause in (0.1, 0.2):
            while clock.sleepers == 0:
                await left(store)
            clock.advance(pause)
        incoming = await anext(one)
        running.cancel()

    assert "a" == incoming.message.id
    assert ["the outbox can't be dispatched now: ConnectionError"] * 2 == caplog.messages


async def test_pause_is_capped(store: Store, clock: ManualClock, picky: Picky) -> None:
    """However long the trouble lasts, the relay tries again within the longest pause."""
    relay = Relay(store, picky, clock, jitter=lambda: 1.0)

    assert [0.2, 0.4, 0.8] == [relay._pause(failures) for failures in (1, 2, 3)]
    assert 5.0 == relay._pause(10_000)


async def test_run_goes_on_when_something_is_not_taken(store: Store, clock: ManualClock, picky: Picky) -> None:
    """A row that nobody takes is offered again later, and the others leave meanwhile."""
    picky.takes = {"b"}
    await emit(store, "a", "b")
    one = picky.deliveries("one", 2)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(Relay(store, picky, clock).run())
        first = await anext(one)
        while clock.sleepers == 0:
            await left(store)
        picky.takes = None
        clock.advance(5.0)
        second = await anext(one)
        running.cancel()

    assert ["b", "a"] == [first.message.id, second.message.id]


async def test_let_go(store: Store, picky: Picky, clock: ManualClock) -> None:
    """What a relay that was cut had leased is another's as soon as it lets go, without waiting for the lease's end."""

    def die() -> None:
        raise Crash

    await emit(store, "e1")
    arm(CrashPoint.BEFORE_DISPATCH, die)
    cut, next_one = Relay(store, picky, clock), Relay(store, picky, clock)
    with pytest.raises(Crash):
        await cut.pass_once()
    disarm()
    held = await next_one.pass_once()
    await cut.let_go()

    assert (0, 1) == (held, await next_one.pass_once())
    assert ["e1"] == picky.published
