"""The watchdog on a real broker: whoever gets nothing of what waits ends, and is started again; whoever works does not.

That a consumer which the broker cancels is replaced at once, and a lost one after a silence, test_consuming.py shows.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from events.amqp import names
from events.amqp.transport import AmqpTransport
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.handler import Received
from events.ladder import Ladder
from events.relay import Relay
from events.transport import Message
from events.watchdog import Stalled, Watchdog
from schemas.facts import PolicyRefreshed
from tests.integration.amqp.fleet import QUICK, READ, SOURCE, WORKER, WRITE, OpenTransport, depth, news, soon
from tests.servers.rabbitmq import RabbitNode, Vhost
from twinlock.clock import ManualClock, SystemClock
from twinlock.store.engine import open_engine
from twinlock.store.unit import LOCAL_PUBLISHER, Store, Unit
from workers.runtime import Fleet
from workers.settings import WorkerSettings

TIMES, SECONDS = 4, 30.0
# The transport's own look never comes: what is left is the watchdog.
PATIENT = replace(QUICK, consuming=replace(QUICK.consuming, silence=3600.0))


Start = Callable[[], "Process"]


class Slow:
    """Handle a policy's news once `free` is set."""

    consumer = WORKER
    handles = PolicyRefreshed

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.free = asyncio.Event()
        self.free.set()

    async def prepare(self, event: PolicyRefreshed, received: Received) -> str:
        """Wait until it is free."""
        self.begun.append(received.envelope.id)
        await self.free.wait()
        return received.envelope.id

    async def commit(self, unit: Unit, plan: str) -> None:
        """Note it."""
        self.done.append(plan)


class Process:
    """Run one worker as its process does, with a watchdog whose time a test moves."""

    def __init__(self, store: Store, transport: AmqpTransport) -> None:
        self.handler, self.clock, self.transport = Slow(), ManualClock(), transport
        self.looks: list[tuple[int, int, bool]] = []  # at each look: what waits, consumers, and health as it is told
        self.stop = asyncio.Event()
        bounds = ConsumerSettings(concurrency=1, prefetch=1)
        consumers = ConsumerRuntime(store, transport, [self.handler], SystemClock(), Ladder(), bounds)
        watchdog = Watchdog(consumers, self._look, self.clock, seconds=SECONDS, times=TIMES)
        relay = Relay(store, transport, SystemClock())
        self._fleet = Fleet((), store, relay, consumers, (), SystemClock(), WorkerSettings(), (watchdog.run,))
        self._waiting = partial(transport.waiting, WORKER)

    async def run(self) -> None:
        """Work until told to stop, or until the watchdog ends it."""
        await self._fleet.run(self.stop)

    async def look(self, over: asyncio.Task[None]) -> None:
        """Have the watchdog look once more, unless the process is over."""
        before = len(self.looks)
        await soon(lambda: self.clock.sleepers > 0 or over.done())
        self.clock.advance(SECONDS)
        await soon(lambda: len(self.looks) > before or over.done())

    async def lose_the_consumer(self) -> None:
        """Take the consumer away at the broker, with nobody told; connection and channel stay."""
        (taking,) = self.transport._takings
        session = taking._session
        assert session is not None
        assert session._queue is not None
        await session._queue.cancel(session._tag)

    async def _look(self) -> tuple[int, int]:
        found = await self._waiting()
        self.looks.append((*found, self.transport.healthy))
        return found


@pytest.fixture
async def store(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Store]:
    """Open a database of the worker's own."""
    shutil.copyfile(sqlite_template, tmp_path / "twinlock.db")
    opened = Store(open_engine(f"sqlite+aiosqlite:///{tmp_path / 'twinlock.db'}"), SystemClock(), SOURCE)
    yield opened
    await opened.close()


@pytest.fixture
def local_url(rabbit: RabbitNode, fleet_vhost: Vhost) -> str:
    """Make a login that may tell a worker every fact, which the worker's own may not."""
    return rabbit.user(fleet_vhost, LOCAL_PUBLISHER, "^$", WRITE, READ)


@pytest.fixture
def sender(local_url: str, open_transport: OpenTransport) -> AmqpTransport:
    """Open what publishes."""
    return open_transport(local_url)


@pytest.fixture
def start(local_url: str, store: Store, open_transport: OpenTransport) -> Start:
    """Return what starts the worker's process, again after its end; each has connections of its own."""
    return lambda: Process(store, open_transport(local_url, PATIENT))


def told(number: int) -> Message:
    return replace(news(number), publisher=LOCAL_PUBLISHER)


async def test_ends_and_goes_on(start: Start, sender: AmqpTransport, fleet_vhost: Vhost) -> None:
    """A process that is connected, and gets nothing of what waits, ends; the next one takes it, once."""
    process, another = start(), start()
    await sender.publish([told(1)])
    with pytest.raises(ExceptionGroup) as ended:
        await stalls(process, sender)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(another.run())
        await soon(lambda: another.handler.done == ["p-2"])
        another.stop.set()

    assert ended.group_contains(Stalled, match="1 messages wait")
    # While nothing waits there is nothing wrong; and all the time no other check saw anything.
    assert [(0, 0, True)] * 2 * TIMES + [(1, 0, True)] * TIMES == process.looks
    assert ["p-1"] == process.handler.begun
    assert 0 == await depth(fleet_vhost.url, names.inbound(WORKER))


async def stalls(process: Process, sender: AmqpTransport) -> None:
    """Run a process until it has handled one message, has lost its consumer, and is ended over the next one."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        running = group.create_task(process.run())
        await soon(lambda: process.handler.done == ["p-1"])
        await process.lose_the_consumer()
        for _ in range(2 * TIMES):
            await process.look(running)
        await sender.publish([told(2)])
        while not (await process.transport.waiting(WORKER))[0]:
            continue  # a queue's count may come a moment later
        while not running.done():
            await process.look(running)


async def test_at_work(start: Start, sender: AmqpTransport) -> None:
    """A process whose hands are full goes on, however long messages wait behind what it works on."""
    process = start()
    process.handler.free.clear()
    await sender.publish([told(number) for number in range(3)])
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        running = group.create_task(process.run())
        await soon(lambda: bool(process.handler.begun))
        for _ in range(2 * TIMES):
            await process.look(running)
        looks = list(process.looks)
        process.handler.free.set()
        await soon(lambda: len(process.handler.done) == 3)
        process.stop.set()

    assert [(2, 1, True)] * 2 * TIMES == looks
    assert {"p-0", "p-1", "p-2"} == set(process.handler.done)
