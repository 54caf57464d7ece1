"""Replicas of one worker share its outbox: each row is published, normally by one of them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest
from sqlalchemy import select, update

from events.memory import MemoryBroker, MemoryTransport
from events.relay import Relay, RelaySettings
from events.transport import Message
from schemas.facts import AssignmentWoken
from twinlock.clock import ManualClock
from twinlock.store.tables.bus import outbox
from twinlock.store.unit import Cause, Store

OpenStore = Callable[[], Awaitable[Store]]
SETTINGS = RelaySettings(batch=7, lease=60.0)


class Crash(BaseException):
    """Stand for the death of a process."""


class Line(MemoryTransport):
    """Publish as a slow broker does, with no route for some and, on demand, a process that dies in the middle."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(MemoryBroker(clock, {}))
        self.published: list[str] = []
        self.unroutable: set[str] = set()
        self.dies = False

    async def publish(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Take what has a route, and let others run meanwhile."""
        for _ in range(3):
            await asyncio.sleep(0.001)
        if self.dies:
            raise Crash
        taken = [message for message in messages if message.id not in self.unroutable]
        self.published += [message.id for message in taken]
        return taken


@pytest.fixture
def lines(clock: ManualClock) -> list[Line]:
    return [Line(clock) for _ in range(3)]


@pytest.fixture
async def relays(open_store: OpenStore, clock: ManualClock, lines: list[Line]) -> list[Relay]:
    """Return three relays, as three processes have them."""
    return [Relay(await open_store(), line, clock, SETTINGS, jitter=lambda: 0.0) for line in lines]


async def emit(store: Store, count: int) -> list[str]:
    names = [f"event-{number:04}" for number in range(count)]
    async with store.begin(Cause("c")) as unit:
        for name in names:
            unit.emit(AssignmentWoken(slot=0), event_id=name)
    return names


async def left(store: Store) -> list[str]:
    async with store.read() as reader:
        return [row.id for row in await reader.rows(select(outbox.c.id).order_by(outbox.c.number))]


async def passes(relays: Sequence[Relay]) -> None:
    async with asyncio.TaskGroup() as group:
        for relay in relays:
            group.create_task(relay.pass_once())


async def test_each_once(store: Store, relays: list[Relay], lines: list[Line]) -> None:
    """Law 12: three relays empty one outbox together, and no row is published by two of them."""
    names = await emit(store, 200)
    await passes(relays)
    await passes(relays)
    published = [name for line in lines for name in line.published]

    assert names == sorted(published)
    assert [] == await left(store)


async def test_one_dies(store: Store, relays: list[Relay], lines: list[Line], clock: ManualClock) -> None:
    """Law 12: what a relay had leased when it died is published by the others once its lease has lapsed, not before."""
    names = await emit(store, 50)
    lines[0].dies = True
    with pytest.raises(Crash):
        await relays[0].pass_once()
    await passes(relays[1:])
    held = await left(store)
    clock.advance(SETTINGS.lease + 1)
    await passes(relays[1:])
    published = Counter(name for line in lines for name in line.published)

    assert names[:7] == held
    assert Counter(names) == published
    assert [] == await left(store)


async def test_cut_pass(store: Store, relays: list[Relay], lines: list[Line]) -> None:
    """What a pass that was cut had leased is its own relay's at once: a worker that stops leaves nothing behind."""
    names = await emit(store, 5)
    lines[0].dies = True
    with pytest.raises(Crash):
        await relays[0].pass_once()
    lines[0].dies = False

    assert 5 == await relays[0].pass_once()
    assert names == lines[0].published


async def test_trouble_frees(
    store: Store, relays: list[Relay], monkeypatch: pytest.MonkeyPatch, lines: list[Line]
) -> None:
    """A relay whose broker fails gives its rows back at once, and without an attempt on their count."""

    async def fail(messages: Sequence[Message]) -> Sequence[Message]:
        raise ConnectionError

    await emit(store, 5)
    monkeypatch.setattr(lines[0], "publish", fail)
    with pytest.raises(ConnectionError):
        await relays[0].pass_once()

    assert 5 == await relays[1].pass_once()


async def test_unroutable(store: Store, relays: list[Relay], lines: list[Line], clock: ManualClock) -> None:
    """A row that nobody takes is put off for longer each time and holds up no other; it leaves when it can."""
    names = await emit(store, 9)
    lines[0].unroutable = set(names[:8])
    assert 1 == await relays[0].pass_once()
    assert 0 == await relays[0].pass_once()
    waits = []
    for _ in range(6):
        waits.append(await _wait(store, clock))
        clock.advance(waits[-1])
        await relays[0].pass_once()
    lines[0].unroutable = set()
    clock.advance(SETTINGS.longest_put_off)

    assert waits == sorted(set(waits))
    assert 8 == await relays[0].pass_once()
    assert [names[8], *names[:8]] == lines[0].published


async def _wait(store: Store, clock: ManualClock) -> float:
    async with store.read() as reader:
        latest = await reader.scalar(select(outbox.c.not_before).order_by(outbox.c.not_before.desc()).limit(1))
    return float((latest - clock.now()).total_seconds())


async def test_senders(store: Store, relays: list[Relay], lines: list[Line]) -> None:
    """A relay leaves alone what another login wrote: the broker would refuse it."""
    names = await emit(store, 4)
    async with store.begin(Cause("c")) as unit:
        await unit.execute(update(outbox).where(outbox.c.id.in_(names[:2])).values(publisher="mailbox_reencryptor"))
    await passes(relays)

    assert names[:2] == await left(store)
    assert names[2:] == sorted(name for line in lines for name in line.published)


async def test_lapsed_but_taken(store: Store, relays: list[Relay], lines: list[Line], clock: ManualClock) -> None:
    """A relay that was slower than its lease still deletes what the broker took, and puts off nobody else's row."""
    names = await emit(store, 2)
    lines[0].unroutable = {names[1]}
    other: list[int] = []
    publish = lines[0].publish

    async def slow(messages: Sequence[Message]) -> Sequence[Message]:
        clock.advance(SETTINGS.lease + 1)
        lines[1].unroutable = set(names)
        other.append(await relays[1].pass_once())
        return await publish(messages)

    lines[0].publish = slow  # type: ignore[method-assign]  # this one line is slow
    assert 1 == await relays[0].pass_once()

    assert [0] == other
    assert names[1:] == await left(store)
    async with store.read() as reader:
        assert 1 == await reader.scalar(select(outbox.c.attempts))
