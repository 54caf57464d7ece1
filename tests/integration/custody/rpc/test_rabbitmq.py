"""Calls to the custodian over a real RabbitMQ: served, lost, cut off, and with somebody in the middle."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from events.amqp import names
from events.amqp.connection import Link, LinkSettings
from events.amqp.consuming import ConsumingSettings
from events.amqp.declare import declare
from events.amqp.rpc import AmqpLane, AmqpRequester, Replying
from events.amqp.topology import custodian as topology
from events.amqp.trouble import BrokerRefused, bounded
from twinlock.custody.callers.enrolment import enroll
from twinlock.custody.errors import CustodianSilent, KeyRefused
from twinlock.custody.port import ContainerRef
from twinlock.custody.remote.caller import RemoteCustodian
from twinlock.custody.remote.ports import Lane
from twinlock.keys.ports import Outcome
from twinlock.keys.signing import SigningKey
from workers.settings import WorkerSettings
from workers.tik_cache_refresher.hosting import Hosting

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody
    from tests.integration.custody.rpc.conftest import Afar
    from tests.servers.proxy import Proxy
    from tests.servers.rabbitmq import RabbitNode, Vhost

T = TypeVar("T")
QUICK = LinkSettings(connect=3.0, call=3.0, first_pause=0.05, longest_pause=0.2)
_PLACES = 4
CONSUMING = ConsumingSettings(silence=5.0, settle=3.0, first_pause=0.05, longest_pause=0.2)
# What a broker's administrator grants, and no more.
CALLER = (r"^twinlock\.reply\..*$", r"^twinlock\.(rpc|reply\..*)$", r"^twinlock\.(replies|reply\..*)$")
HOST = ("^$", r"^twinlock\.replies$", r"^twinlock\.tik_cache_refresher\.rpc\..*$")


class Bus:
    """Hold a virtual host with the topology, and open both sides on it."""

    def __init__(self, afar: "Afar", node: "RabbitNode", vhost: "Vhost") -> None:
        self.afar = afar
        self.vhost = vhost
        self.caller_url = node.user(vhost, f"caller-{vhost.name}", *CALLER)
        self.host_url = node.user(vhost, f"host-{vhost.name}", *HOST)

    @asynccontextmanager
    async def calling(self, name: str, url: str | None = None) -> AsyncIterator[tuple[RemoteCustodian, AmqpRequester]]:
        """Open a caller's side."""
        requester = AmqpRequester(Link(url or self.caller_url, name, QUICK))
        custody, key = self.afar.custody, self.afar.keys[name]
        try:
            yield RemoteCustodian(custody.store, requester, name, key, custody.clock), requester
        finally:
            await requester.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Hosting]:
        """Serve both lanes."""
        consuming, publishing = (Link(self.host_url, name, QUICK) for name in ("consumes", "publishes"))
        lanes = {lane: AmqpLane(consuming, Replying(publishing), lane, _PLACES, CONSUMING) for lane in Lane}
        hosting = Hosting(self.afar.serve, lanes, WorkerSettings())
        try:
            async with beside(hosting.run()):
                yield hosting
        finally:
            await consuming.close()
            await publishing.close()


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have something run until the block ends."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


@pytest.fixture
async def bus(afar: "Afar", rabbit: "RabbitNode", vhost: "Vhost") -> Bus:
    """Return a broker with everything declared that calls need."""
    link = Link(vhost.url, "declares")
    await declare(link, topology())
    await link.close()
    return Bus(afar, rabbit, vhost)


@pytest.fixture
async def ref(custody: "Custody") -> ContainerRef:
    """Return a container under a policy."""
    return await custody.container(await custody.policy("p"))


class Middle:
    """Take every request in the place of the custodian, and answer what and when one likes."""

    def __init__(self, afar: "Afar", answers: Callable[[bytes, bytes | None], Iterable[bytes]]) -> None:
        self._afar = afar
        self._answers = answers
        self.seen: list[bytes] = []

    async def run(self, url: str) -> None:
        """Consume the lane of people's calls."""
        link = Link(url, "middle")
        try:
            channel = await link.channel(confirms=True)
            queue = await channel.get_queue(names.lane_queue("user"))
            replies = await channel.get_exchange(names.REPLIES)
            async with queue.iterator() as deliveries:
                async for delivery in deliveries:
                    await delivery.ack()
                    for body in await self._chosen(delivery):
                        reply = Message(body, correlation_id=delivery.correlation_id, message_id=f"m{len(self.seen)}")
                        self.seen.append(body)
                        await replies.publish(reply, delivery.reply_to or "", mandatory=False)
        finally:
            await link.close()

    async def _chosen(self, delivery: AbstractIncomingMessage) -> Iterable[bytes]:
        self.seen.append(delivery.body)
        return self._answers(delivery.body, await self._afar.serve(delivery.body))


async def test_served(custody: "Custody", bus: Bus, ref: ContainerRef) -> None:
    """A key, a batch and a refusal come back over the broker, under the tightest permissions."""
    await custody.policy("q")
    job = await bus.afar.job("assign", "dep_assigner", policy_id="q")
    async with bus.serving(), bus.calling("operator") as (people, _), bus.calling("dep_assigner") as (worker, _):
        opened = await people.open_container_key(ref, bus.afar.user())
        rewrapped = await worker.rewrap_containers([ref] * 3, "q", bus.afar.working("assign", job))
        custody.hold("p", Outcome.DENIED, Outcome.DENIED)
        custody.restart()
        with pytest.raises(KeyRefused, match="refuses"):
            await people.open_container_key(ref, bus.afar.user())

    assert opened.key.commitment() == rewrapped[0].commitment
    assert ["q"] * 3 == [key.policy_id for key in rewrapped]


async def test_many_at_once(bus: Bus, ref: ContainerRef) -> None:
    """Two hundred calls at a time each get their own answer, and none is left behind."""
    async with bus.serving(), bus.calling("operator") as (people, requester):
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(people.open_container_key(ref, bus.afar.user())) for _ in range(200)]

        assert 1 == len({call.result().key.commitment() for call in calls})
        assert 0 == requester.pending


async def test_nobody_serves(bus: Bus, ref: ContainerRef) -> None:
    """Without a custodian a call ends at its deadline, may be asked again, and leaves nothing behind."""
    async with bus.calling("operator") as (people, requester):
        with pytest.raises(CustodianSilent, match="in time"):
            await people.open_container_key(ref, bus.afar.user(1.0))

        assert 0 == requester.pending


async def test_cancelled(bus: Bus, ref: ContainerRef) -> None:
    """A cancelled call leaves nothing behind."""
    async with bus.calling("operator") as (people, requester):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(people.open_container_key(ref, bus.afar.user()))
            await _until_waiting(bus, requester)
            task.cancel()

        assert task.cancelled()
        assert 0 == requester.pending


async def test_nothing_declared(afar: "Afar", rabbit: "RabbitNode", vhost: "Vhost", ref: ContainerRef) -> None:
    """On a broker where nothing was declared a call says that the custodian can't be reached."""
    bus = Bus(afar, rabbit, vhost)
    async with bus.calling("operator") as (people, requester):
        with pytest.raises(CustodianSilent, match=r"can't be reached|in time"):
            await people.open_container_key(ref, afar.user(1.0))

        assert 0 == requester.pending


async def test_background_does_not_starve_people(custody: "Custody", bus: Bus, ref: ContainerRef) -> None:
    """While background calls take all their places and queue up behind them, a person is served."""
    job = await bus.afar.job("reencrypt", "mailbox_reencryptor", container_id=ref.container_id)
    stuck, release, real = asyncio.Event(), asyncio.Event(), bus.afar.serve

    async def _serve(body: bytes, sender: str | None = None) -> bytes | None:
        if b"mailbox_reencryptor" in body:
            stuck.set()
            await release.wait()
        return await real(body, sender)

    bus.afar.serve = _serve  # type: ignore[method-assign]  # a custodian that is slow for one caller
    work = bus.afar.working("reencrypt", job)
    people_call, steps_call = bus.calling("operator"), bus.calling("mailbox_reencryptor")
    async with bus.serving(), people_call as (people, _), steps_call as (steps, _), asyncio.TaskGroup() as group:
        waiting = [group.create_task(steps.open_container_key(ref, work)) for _ in range(20)]
        await stuck.wait()
        opened = await people.open_container_key(ref, bus.afar.user())
        done = [call for call in waiting if call.done()]
        release.set()

    assert [] == done
    assert {opened.key.commitment()} == {call.result().key.commitment() for call in waiting}


async def test_stopped_custodian(bus: Bus, ref: ContainerRef) -> None:
    """A custodian that stops answers every call that it has begun, and leaves all others to the next one."""
    full, release, real, served = asyncio.Event(), asyncio.Event(), bus.afar.serve, list[bytes]()

    async def _serve(body: bytes, sender: str | None = None) -> bytes | None:
        served.append(body)
        if len(served) == _PLACES:
            full.set()
        await release.wait()
        return await real(body, sender)

    bus.afar.serve = _serve  # type: ignore[method-assign]  # a custodian that is slow
    async with bus.calling("operator") as (people, _), asyncio.TaskGroup() as group:
        async with bus.serving() as leaving:
            calls = [group.create_task(people.open_container_key(ref, bus.afar.user(20.0))) for _ in range(6)]
            await full.wait()
            stopping = group.create_task(leaving.drain(10.0))
            await asyncio.sleep(0)
            release.set()
            await stopping
            begun = len(served)
        async with bus.serving():
            await asyncio.wait(calls)

    assert _PLACES == begun
    assert 6 == len(set(served)) == len(served)
    assert 1 == len({call.result().key.commitment() for call in calls})


async def test_broker_restarts(bus: Bus, rabbit: "RabbitNode", ref: ContainerRef) -> None:
    """Calls that wait while the broker restarts are served when it is back, on new connections of both sides."""
    async with bus.serving(), bus.calling("operator") as (people, requester):
        await people.open_container_key(ref, bus.afar.user())
        await asyncio.to_thread(rabbit.stop)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(people.open_container_key(ref, bus.afar.user(120.0)))
            await asyncio.to_thread(rabbit.start)

        assert ref == call.result().ref
        assert 0 == requester.pending


async def test_cut_in_the_middle(bus: Bus, rabbit: "RabbitNode", proxy: "Proxy", ref: ContainerRef) -> None:
    """A call whose connection is cut while it waits learns of it at once and asks anew; the first is never answered."""
    user = f"caller-{bus.vhost.name}"
    url = rabbit.url(bus.vhost.name, user, proxy.port)
    async with bus.calling("operator", url) as (people, requester):
        async with asyncio.TaskGroup() as group:
            call = group.create_task(people.open_container_key(ref, bus.afar.user()))
            await _until_waiting(bus, requester)
            proxy.cut()
            group.create_task(_serve_until(bus, call))

        assert ref == call.result().ref
        assert 0 == requester.pending


async def _until_waiting(bus: Bus, requester: AmqpRequester) -> None:
    """Return when a call's request is in its queue, and nobody has taken it."""
    link = Link(bus.vhost.url, "looks")
    channel = await link.channel(confirms=False)
    count: int | None = 0
    for _ in range(1000):
        queue = await channel.get_queue(names.lane_queue("user"))
        count = queue.declaration_result.message_count
        if requester.pending and count:
            break
    await link.close()
    assert count


async def _serve_until(bus: Bus, call: "asyncio.Task[Any]") -> None:
    async with bus.serving():
        await asyncio.wait([call])


@pytest.mark.parametrize("hostile", ["answers first", "swaps", "truncates", "replays", "exchanges", "flips"])
async def test_law_9_in_the_middle(bus: Bus, ref: ContainerRef, hostile: str) -> None:
    """Law 9: somebody who takes every request from the broker's queue gives no wrong key, and learns none."""
    old: list[bytes] = []

    def _answers(_request: bytes, reply: bytes | None) -> list[bytes]:
        assert reply is not None
        old.append(reply)
        flipped = bytes([*reply[:-1], reply[-1] ^ 1])
        return {
            "answers first": [b"", b"rubbish", flipped, reply[:100], reply],
            "swaps": [SigningKey.generate().sign(b"x", reply) + reply],
            "truncates": [reply[:-1]],
            "replays": old[:1],
            "exchanges": old[-2:-1],
            "flips": [flipped],
        }[hostile]

    middle = Middle(bus.afar, _answers)
    async with beside(middle.run(bus.vhost.url)), bus.calling("operator") as (people, requester):
        served = [await _tried(people.open_container_key(ref, bus.afar.user(1.5))) for _ in range(2)]

        assert 0 == requester.pending
    expected = {"answers first": [True, True], "replays": [True, False]}
    assert expected.get(hostile, [False, False]) == [each is not None for each in served]
    real = await bus.afar.custody.custodian.open_container_key(ref, bus.afar.user())
    assert all(each.key == real.key for each in served if each is not None)
    assert len(middle.seen) >= 2
    assert not any(bytes(real.key.expose()) in seen for seen in middle.seen)


async def _tried(work: Coroutine[Any, Any, T]) -> T | None:
    try:
        return await work
    except CustodianSilent:
        return None


async def test_law_9_broker_login(custody: "Custody", bus: Bus, ref: ContainerRef) -> None:
    """Law 9: a key that was enrolled with a login asks from it alone, though whoever calls holds the key."""
    own, public = f"caller-{bus.vhost.name}", bus.afar.keys["operator"].public
    async with custody.store.begin(bus.afar.user().cause) as unit:
        await enroll(unit, "operator", public, own)
    async with bus.serving():
        async with bus.calling("operator") as (people, _):
            assert await people.open_container_key(ref, bus.afar.user())
        async with bus.calling("operator", bus.vhost.url) as (thief, _):
            with pytest.raises(CustodianSilent):
                await thief.open_container_key(ref, bus.afar.user(1.0))


async def test_law_9_forged_login(bus: Bus, ref: ContainerRef) -> None:
    """Law 9: the broker itself refuses a request that names another's login."""
    link = Link(bus.caller_url, "forger", QUICK)
    channel = await link.channel(confirms=True)
    exchange = await channel.get_exchange(names.RPC, ensure=False)
    with pytest.raises(BrokerRefused, match="user_id"):
        await bounded(exchange.publish(Message(b"x", user_id="operator"), names.lane_key("user")), 5.0)
    await link.close()


async def test_law_9_request_sent_again(bus: Bus, ref: ContainerRef) -> None:
    """Law 9: a request that somebody puts into the queue again is not answered again, wherever the answer would go."""
    async with bus.calling("operator") as (people, _):
        middle = Middle(bus.afar, lambda _request, reply: [reply or b""])
        async with beside(middle.run(bus.vhost.url)):
            await people.open_container_key(ref, bus.afar.user())
        link, own = Link(bus.vhost.url, "thief"), "twinlock.reply.thief"
        channel = await link.channel(confirms=True)
        queue = await channel.declare_queue(own, exclusive=True)
        await queue.bind(names.REPLIES, own)
        exchange = await channel.get_exchange(names.RPC)
        async with bus.serving():
            again = Message(middle.seen[0], reply_to=own, correlation_id="c", message_id="again")
            await exchange.publish(again, names.lane_key("user"))
            await people.open_container_key(ref, bus.afar.user())
            found = await queue.get(fail=False, no_ack=True)
        await link.close()

    assert found is None
