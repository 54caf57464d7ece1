"""What every transport promises, through the one port."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, case, select, update

from events import dead_letters
from events.amqp.collector import Collector
from events.amqp.connection import Link
from events.amqp.declare import declare
from events.amqp.names import letter_queue
from events.amqp.topology import fleet
from events.amqp.transport import AmqpSettings, AmqpTransport
from events.attempt import AttemptSettings
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.embedded import EmbeddedTransport
from events.handler import Received, TryLater
from events.ladder import Ladder
from events.memory import MemoryBroker, MemoryTransport
from events.taking import POLL_SECONDS
from events.transport import Incoming, Message, Transport
from schemas import envelope
from schemas.envelope import enclose, serialise
from schemas.facts import PolicyCreated, PolicyRefreshed
from twinlock.clock import ManualClock
from twinlock.store.once import insert_once
from twinlock.store.unit import Cause, Store, Unit

if TYPE_CHECKING:
    from tests.servers.rabbitmq import RabbitNode, Vhost

OpenStore = Callable[[], Awaitable[Store]]

ROUTES = {PolicyRefreshed.type: ("one", "two")}
SETTINGS = ConsumerSettings(concurrency=3, prefetch=6, attempt=AttemptSettings(pause=0.0))
LADDER = Ladder(tiers=(0.0,) * 20, jitter=lambda: 0.0)

effects = Table(
    "effects",
    MetaData(),
    Column("consumer", String, primary_key=True),
    Column("policy", String, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("handled", Integer, nullable=False),
)

State = dict[tuple[str, str], tuple[int, int]]
Letter = tuple[str, str, int, str]


class Bench(Protocol):
    """Make transports on one backing, and look into its dead letters."""

    async def transport(self) -> Transport:
        """Return a new transport, as a process after the last one would have it."""
        ...

    async def letters(self) -> Sequence[Letter]:
        """Return consumer, event id, attempts and reason of every dead letter."""
        ...

    async def retry_letters(self) -> None:
        """Put every dead letter back."""
        ...

    @property
    def delay(self) -> float:
        """Return a delay, in seconds, that `passes` lets go by."""
        ...

    async def awaited(self) -> None:
        """Return when the transport waits for the delay to go by."""
        ...

    def passes(self, seconds: float) -> None:
        """Let time go by, where it does not go by itself."""
        ...


class Clocked:
    """Let the time of a bench be that of a manual clock."""

    delay = 30.0

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    async def awaited(self) -> None:
        """Wait until somebody sleeps."""
        while self._clock.sleepers == 0:
            await breathe()

    def passes(self, seconds: float) -> None:
        """Move the clock."""
        self._clock.advance(seconds)


class EmbeddedBench(Clocked):
    """Bench of the embedded transport: every transport has its own store on the one database."""

    def __init__(self, open_store: OpenStore, clock: ManualClock) -> None:
        super().__init__(clock)
        self._open_store = open_store

    async def transport(self) -> Transport:
        """Open a transport."""
        return EmbeddedTransport(await self._open_store(), self._clock, ROUTES)

    async def letters(self) -> Sequence[Letter]:
        """Read the letters."""
        async with (await self._open_store()).read() as reader:
            found = await dead_letters.listing(reader)
        return [(letter.consumer, letter.id, letter.attempts, letter.reason) for letter in found]

    async def retry_letters(self) -> None:
        """Put them back."""
        async with (await self._open_store()).begin(Cause("retry")) as unit:
            await dead_letters.retry(unit)


class MemoryBench(Clocked):
    """Bench of the memory transport: the broker outlives its transports."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self._broker = MemoryBroker(clock, ROUTES)

    async def transport(self) -> Transport:
        """Open a transport."""
        return MemoryTransport(self._broker)

    async def letters(self) -> Sequence[Letter]:
        """Read the letters."""
        return [
            (letter.delivery.consumer, letter.delivery.message.id, letter.delivery.attempts, letter.reason)
            for letter in self._broker.letters
        ]

    async def retry_letters(self) -> None:
        """Put them back."""
        self._broker.retry_letters()


class AmqpBench:
    """Bench of RabbitMQ: a virtual host outlives its transports, and its ladder has short tiers."""

    delay = 1.5

    def __init__(self, url: str, open_store: OpenStore, clock: ManualClock) -> None:
        self._url = url
        self._open_store = open_store
        self._clock = clock
        self._last: AmqpTransport | None = None

    async def transport(self) -> AmqpTransport:
        """Open a transport in place of the last one, whose process is gone."""
        await self.close()
        self._last = self._another()
        return self._last

    def _another(self) -> AmqpTransport:
        settings = AmqpSettings(tiers=(0.02, self.delay))
        return AmqpTransport(self._url, "test", "urn:twinlock:test", self._clock, settings)

    async def letters(self) -> Sequence[Letter]:
        """Collect the letters, and read them."""
        transport, store = self._another(), await self._open_store()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for consumer in ("one", "two"):
                waiting = await depth(transport.publishing, letter_queue(consumer))
                if waiting == 0:
                    continue
                before = len(await _letters(store))
                group.create_task(Collector(transport, store, consumer).collect())
                while len(await _letters(store)) < before + waiting:
                    await breathe()
            await transport.close()
        return await _letters(store)

    async def retry_letters(self) -> None:
        """Put them back into the broker."""
        transport, store = self._another(), await self._open_store()
        async with store.begin(Cause("retry")) as unit:
            await dead_letters.retry(unit)
        for consumer in ("one", "two"):
            await Collector(transport, store, consumer).put_back_once()
        await transport.close()

    async def awaited(self) -> None:
        """Return: the broker needs nobody to wait."""

    def passes(self, seconds: float) -> None:
        """Do nothing: the broker's time goes by itself."""

    async def close(self) -> None:
        """Close the last transport as the end of its process does."""
        if self._last is not None:
            await self._last.consuming.drop()
            await self._last.close()


async def depth(link: Link, queue: str) -> int:
    channel = await link.channel(confirms=False)
    return int((await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0)


async def _letters(store: Store) -> Sequence[Letter]:
    async with store.read() as reader:
        found = await dead_letters.listing(reader)
    return [(letter.consumer, letter.id, letter.attempts, letter.reason) for letter in found]


@asynccontextmanager
async def amqp_bench(request: pytest.FixtureRequest, open_store: OpenStore, clock: ManualClock) -> AsyncIterator[Bench]:
    node: RabbitNode = request.getfixturevalue("rabbit")
    vhost: Vhost = request.getfixturevalue("vhost")
    link = Link(vhost.url, "declares")
    workers = {consumer: [PolicyRefreshed.type] for consumer in ("one", "two")}
    await declare(link, fleet(workers, (0.02, AmqpBench.delay)))
    await link.close()
    bench = AmqpBench(node.user(vhost, "local", "^$", ".*", ".*"), open_store, clock)
    yield bench
    await bench.close()


@pytest.fixture(params=["embedded", "memory", pytest.param("amqp", marks=pytest.mark.servers)])
async def bench(request: pytest.FixtureRequest, open_store: OpenStore, clock: ManualClock) -> AsyncIterator[Bench]:
    if request.param == "amqp":
        async with amqp_bench(request, open_store, clock) as opened:
            yield opened
    else:
        yield EmbeddedBench(open_store, clock) if request.param == "embedded" else MemoryBench(clock)


@pytest.fixture
async def transport(bench: Bench) -> Transport:
    return await bench.transport()


class Tell:
    """Handle a policy's news: the newest version wins, and every handling is counted."""

    handles = PolicyRefreshed

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer
        self.troubles = 0
        self.seen: asyncio.Queue[str] = asyncio.Queue()

    async def prepare(self, event: PolicyRefreshed, received: Received) -> PolicyRefreshed:
        """Ask for later as often as `troubles` says."""
        if self.troubles:
            self.troubles -= 1
            raise TryLater("trouble")
        self.seen.put_nowait(received.envelope.id)
        return event

    async def commit(self, unit: Unit, plan: PolicyRefreshed) -> None:
        """Write the newest version and count."""
        key = {"consumer": self.consumer, "policy": plan.policy}
        await unit.execute(insert_once(unit, effects).values(**key, version=0, handled=0))
        newest = case((effects.c.version < plan.version, plan.version), else_=effects.c.version)
        change = update(effects).values(version=newest, handled=effects.c.handled + 1).filter_by(**key)
        await unit.execute(change)


class Shuffling:
    """Disturb a transport: publish out of order and twice, lose acknowledgements."""

    def __init__(self, inner: Transport, seed: int) -> None:
        self._inner = inner
        self._random = random.Random(seed)  # noqa: S311  # a repeatable order, not a secret

    async def publish(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Publish everything twice, one by one, in some order."""
        for message in self._random.sample([*messages, *messages], 2 * len(messages)):
            await self._inner.publish([message])
        return messages

    async def deliveries(self, consumer: str, prefetch: int) -> AsyncIterator[Incoming]:
        """Yield deliveries some of whose acknowledgements get lost."""
        async for incoming in self._inner.deliveries(consumer, prefetch):
            yield Forgetful(incoming, self._random.random() < 0.4)

    async def drain(self) -> None:
        """Drain."""
        await self._inner.drain()


class Forgetful:
    """Lose the acknowledgement of a delivery, so that it comes again after its commit."""

    def __init__(self, inner: Incoming, loses: bool) -> None:
        self._inner = inner
        self._loses = loses

    @property
    def message(self) -> Message:
        """Return the message."""
        return self._inner.message

    @property
    def attempts(self) -> int:
        """Return the attempts."""
        return self._inner.attempts

    async def ack(self) -> None:
        """Acknowledge, or not."""
        if self._loses:
            await self._inner.retry(0.0, "the acknowledgement was lost")
        else:
            await self._inner.ack()

    async def retry(self, delay: float, reason: str) -> None:
        """Retry."""
        await self._inner.retry(delay, reason)

    async def dead_letter(self, reason: str) -> None:
        """Give up."""
        await self._inner.dead_letter(reason)

    async def reject(self, reason: str) -> None:
        """Reject."""
        await self._inner.reject(reason)


def news(number: int, policy: str = "p", event_type: type[PolicyRefreshed] = PolicyRefreshed) -> Message:
    event = event_type(policy=policy, version=number, tenant="acme", generation=1, key_versions={})
    envelope = enclose(
        event,
        event_id=f"{policy}-{number}",
        source="urn:twinlock:test",
        time=ManualClock().now(),
        correlation="c",
        causation=None,
    )
    return Message("local", envelope.source, envelope.id, envelope.type, "c", serialise(envelope))


async def take(transport: Transport, consumer: str, count: int) -> list[Incoming]:
    taking = transport.deliveries(consumer, count)
    async with asyncio.timeout(20):
        return [await anext(taking) for _ in range(count)]


@asynccontextmanager
async def running(store: Store, transport: Transport, clock: ManualClock, *handlers: Tell) -> AsyncIterator[None]:
    async with store.engine.begin() as connection:
        await connection.run_sync(effects.metadata.create_all)
    runtime = ConsumerRuntime(store, transport, handlers, clock, LADDER, SETTINGS)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(runtime.run())
        yield
        await runtime.drain(10.0)


async def state(store: Store) -> State:
    async with store.read() as reader:
        rows = await reader.rows(select(effects))
    return {(row.consumer, row.policy): (row.version, row.handled) for row in rows}


async def until(store: Store, expected: State) -> None:
    while await state(store) != expected:
        await breathe()


async def breathe() -> None:
    await asyncio.sleep(0)


async def test_every_consumer_gets_the_very_bytes(transport: Transport) -> None:
    """A message reaches each consumer of its type once, as the bytes that were published."""
    sent = news(1)

    assert [sent] == await transport.publish([sent])
    for consumer in ("one", "two"):
        (incoming,) = await take(transport, consumer, 1)

        assert sent == incoming.message
        assert 0 == incoming.attempts


async def test_nobody_listens(transport: Transport) -> None:
    """A message that no consumer takes is taken by the transport, so that the outbox empties."""
    event = PolicyCreated.type
    message = Message("local", "urn:x", "1", event, "c", b"{}")

    assert [message] == await transport.publish([message])


async def test_at_least_once(bench: Bench) -> None:
    """What was taken and never settled is delivered again after a restart (law 11)."""
    first = await bench.transport()
    await first.publish([news(1), news(2)])
    await take(first, "one", 2)

    again = await take(await bench.transport(), "one", 2)

    assert {"p-1", "p-2"} == {incoming.message.id for incoming in again}


async def test_acknowledged_is_forgotten(bench: Bench) -> None:
    """What was acknowledged does not come again, in this process or the next."""
    first = await bench.transport()
    await first.publish([news(1), news(2)])
    for incoming in await take(first, "one", 2):
        await incoming.ack()
    second = await bench.transport()
    await second.publish([news(3)])

    (only,) = await take(second, "one", 1)

    assert "p-3" == only.message.id


async def test_attempts_are_each_consumers_own(transport: Transport) -> None:
    """One consumer's failures are not counted for another."""
    await transport.publish([news(1)])
    for _ in range(3):
        (incoming,) = await take(transport, "one", 1)
        await incoming.retry(0.0, "trouble")

    (one,) = await take(transport, "one", 1)
    (two,) = await take(transport, "two", 1)

    assert (3, 0) == (one.attempts, two.attempts)


async def test_retry_waits(bench: Bench, transport: Transport) -> None:
    """A retried delivery comes when its delay is over, and others come meanwhile."""
    await transport.publish([news(1)])
    taking = transport.deliveries("one", 2)
    await (await anext(taking)).retry(bench.delay, "trouble")
    await transport.publish([news(2)])
    early = await anext(taking)
    async with asyncio.TaskGroup() as group:
        late = group.create_task(_next(taking))
        for _ in range(2):
            await bench.awaited()
            waiting = not late.done()
            bench.passes(bench.delay / 2)

    assert "p-2" == early.message.id
    assert waiting
    assert ("p-1", 1) == (late.result().message.id, late.result().attempts)


async def _next(taking: AsyncIterator[Incoming]) -> Incoming:
    return await anext(taking)


async def test_delay_survives_a_restart(bench: Bench) -> None:
    """Attempts and delay of a delivery are kept across a restart."""
    first = await bench.transport()
    await first.publish([news(1), news(2)])
    early, _ = await take(first, "one", 2)
    await early.retry(bench.delay, "trouble")
    second = await bench.transport()
    taking = second.deliveries("one", 2)
    now = await anext(taking)
    bench.passes(bench.delay)
    later = await anext(taking)

    assert ("p-2", 0) == (now.message.id, now.attempts)
    assert ("p-1", 1) == (later.message.id, later.attempts)


async def test_dead_letter_and_back(bench: Bench, transport: Transport) -> None:
    """A dead letter says who gave up, after how many attempts and why, and comes back as if new, for that consumer."""
    await transport.publish([news(1)])
    (incoming,) = await take(transport, "one", 1)
    await incoming.retry(0.0, "trouble")
    (incoming,) = await take(transport, "one", 1)
    await incoming.dead_letter("no hope")

    assert [("one", "p-1", 2, "no hope")] == await bench.letters()

    await bench.retry_letters()
    bench.passes(POLL_SECONDS)
    (back,) = await take(transport, "one", 1)

    assert [] == await bench.letters()
    assert ("p-1", 0) == (back.message.id, back.attempts)


async def test_prefetch_bounds(transport: Transport) -> None:
    """No more than the prefetch are unsettled at a time; one settled makes room for one."""
    await transport.publish([news(number) for number in range(1, 5)])
    taking = transport.deliveries("one", 2)
    first, second = await anext(taking), await anext(taking)
    async with asyncio.TaskGroup() as group:
        third = group.create_task(_next(taking))
        for _ in range(20):
            await asyncio.sleep(0)
        waited = not third.done()
        await first.ack()

    assert waited
    assert 3 == len({first.message.id, second.message.id, third.result().message.id})


async def test_never_twice_at_a_time(transport: Transport) -> None:
    """Two takings of one consumer share its deliveries and get none twice."""
    await transport.publish([news(number) for number in range(1, 21)])

    async with asyncio.TaskGroup() as group:
        halves = [group.create_task(take(transport, "one", 10)) for _ in range(2)]
    taken = [incoming.message.id for half in halves for incoming in half.result()]

    assert 20 == len(set(taken))


async def test_drain_ends_the_taking(bench: Bench) -> None:
    """After drain nothing more is yielded, a waiting consumer ends, and the rest is there for the next process."""
    first = await bench.transport()
    await first.publish([news(1), news(2), news(3)])
    taking = first.deliveries("one", 2)
    taken = await anext(taking)
    idle = first.deliveries("nobody", 1)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_all(idle))
        await first.drain()
    await taken.ack()

    assert [] == waiting.result()
    assert [] == await _all(taking)

    rest = await take(await bench.transport(), "one", 2)

    assert {"p-2", "p-3"} == {incoming.message.id for incoming in rest}


async def _all(taking: AsyncIterator[Incoming]) -> list[Incoming]:
    return [incoming async for incoming in taking]


async def _abort_after(running: AbstractAsyncContextManager[None], tell: Tell, count: int) -> None:
    async with running:
        for _ in range(count):
            await tell.seen.get()
        raise ConnectionAbortedError


@pytest.mark.parametrize("seed", range(3))
async def test_shuffled_and_duplicated(bench: Bench, store: Store, clock: ManualClock, seed: int) -> None:
    """Any order and any number of duplicates lead to the same end state, each event counted once (law 11)."""
    messages = [news(number, policy) for number in range(1, 6) for policy in ("p", "q")]
    expected = {(consumer, policy): (5, 5) for consumer in ("one", "two") for policy in ("p", "q")}
    disturbed = Shuffling(await bench.transport(), seed)
    async with running(store, disturbed, clock, Tell("one"), Tell("two")):
        await disturbed.publish(messages)
        await until(store, expected)

    assert expected == await state(store)


async def test_published_twice(transport: Transport, store: Store, clock: ManualClock) -> None:
    """Publishing a handled message again does no harm (law 11)."""
    one = Tell("one")
    async with running(store, transport, clock, one):
        await transport.publish([news(1)])
        await until(store, {("one", "p"): (1, 1)})
        await transport.publish([news(1), news(2)])
        await until(store, {("one", "p"): (2, 2)})

    assert {("one", "p"): (2, 2)} == await state(store)


async def test_restart_in_the_middle(bench: Bench, store: Store, clock: ManualClock) -> None:
    """A process that is cancelled at work loses nothing and repeats no effect (law 11)."""
    messages = [news(number) for number in range(1, 21)]
    first, one = await bench.transport(), Tell("one")
    await first.publish(messages)
    with pytest.raises(ExceptionGroup):
        await _abort_after(running(store, first, clock, one), one, 5)
    async with running(store, await bench.transport(), clock, Tell("one")):
        await until(store, {("one", "p"): (20, 20)})

    assert {("one", "p"): (20, 20)} == await state(store)


async def test_trouble_passes(transport: Transport, store: Store, clock: ManualClock) -> None:
    """A handler that asks for later is asked again until it succeeds."""
    one = Tell("one")
    one.troubles = 7
    async with running(store, transport, clock, one):
        await transport.publish([news(1)])
        await until(store, {("one", "p"): (1, 1)})

    assert 0 == one.troubles


FUTURE = (
    "from the future: unknown-type: type: no event of this type is defined; "
    "upgrade this worker, then: twinlock dlq retry"
)
RUBBISH = {
    "bytes": (b"\xff\x00rubbish", "malformed: "),
    "json": (b"[]", "malformed: "),
    "large": (b" " * 70_000, "too-large: the message has 70000 bytes; the limit is 65536"),
    "type": (news(1).body.replace(b"refreshed", b"imagined"), "from the future: unknown-type: type: "),
    "version": (news(1).body.replace(b"refreshed.v1", b"refreshed.v9"), "from the future: unknown-version: type: "),
    "data": (news(1).body.replace(b'"version":1', b'"version":0'), "malformed: "),
    "label": (news(2).body, "malformed: the id that it travelled under is not the envelope's"),
}


@pytest.mark.parametrize("kind", RUBBISH)
async def test_rubbish(bench: Bench, transport: Transport, store: Store, clock: ManualClock, kind: str) -> None:
    """Rubbish becomes a dead letter with a precise reason, and what comes behind it is handled."""
    body, reason = RUBBISH[kind]
    rubbish = Message("local", "urn:twinlock:test", "p-1", PolicyRefreshed.type, "c", body)
    async with running(store, transport, clock, Tell("one")):
        await transport.publish([rubbish, news(3)])
        await until(store, {("one", "p"): (3, 1)})
        while not await bench.letters():
            await breathe()

    ((consumer, _id, attempts, said),) = await bench.letters()

    assert ("one", 1) == (consumer, attempts)
    assert said.startswith(reason)


async def test_from_the_future(
    bench: Bench, transport: Transport, store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a newer worker wrote is put aside by an older one, with the way out, and handled once by the newer."""
    both = {(consumer, "p"): (1, 1) for consumer in ("one", "two")}
    with monkeypatch.context() as older:
        older.setattr(envelope, "EVENTS", {PolicyCreated.type: PolicyCreated})
        async with running(store, transport, clock, Tell("one"), Tell("two")):
            await transport.publish([news(1)])
            while len(await bench.letters()) < 2:
                await breathe()
        letters = await bench.letters()
    await bench.retry_letters()
    async with running(store, await bench.transport(), clock, Tell("one"), Tell("two")):
        bench.passes(POLL_SECONDS)
        await until(store, both)

    assert {"one", "two"} == {consumer for consumer, *_ in letters}
    assert {FUTURE} == {reason for *_, reason in letters}
    assert [] == await bench.letters()
    assert both == await state(store)


async def test_same_key_other_body(bench: Bench, transport: Transport, store: Store, clock: ManualClock) -> None:
    """A second body under a handled source and id is a dead letter of each consumer, and has no effect (law 11)."""
    forged = replace(news(1), body=news(1).body.replace(b"acme", b"evil"))
    once = {("one", "p"): (1, 1), ("two", "p"): (1, 1)}
    async with running(store, transport, clock, Tell("one"), Tell("two")):
        await transport.publish([news(1)])
        await until(store, once)
        await transport.publish([forged])
        while len(await bench.letters()) < 2:
            await breathe()
    reason = "conflict: the same source and id came before with another body"

    assert once == await state(store)
    assert [(consumer, "p-1", 1, reason) for consumer in ("one", "two")] == sorted(await bench.letters())
