"""Publishing: taken means confirmed and kept, whatever happens to the broker or on the way to it."""

import asyncio
from collections import Counter
from itertools import count

import aio_pika
import pytest

from events.amqp import names, wire
from events.amqp.publishing import Parcel
from events.amqp.transport import AmqpTransport
from events.amqp.trouble import BrokerGone, NotTaken, Unroutable
from events.transport import Message
from schemas.facts import PolicyCreated
from schemas.identifiers import AvailabilityMode, Workload
from tests.integration.amqp.fleet import (
    READ,
    WORKER,
    WRITE,
    OpenTransport,
    Stranger,
    alert,
    answered,
    blocked,
    depth,
    drained,
    message,
    move,
    news,
    stalled,
    take,
)
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitNode, Vhost
from twinlock.clock import ManualClock


async def published(transport: AmqpTransport, messages: list[Message]) -> None:
    """Publish until everything is taken, as the relay does."""
    left = messages
    async with asyncio.timeout(90):
        while left:
            taken = await transport.publish(left)
            left = [message for message in left if message not in taken]


async def arrived(transport: AmqpTransport, count: int) -> Counter[str]:
    """Take and acknowledge until so many different messages came."""
    seen: Counter[str] = Counter()
    async with asyncio.timeout(90):
        async for incoming in transport.deliveries(WORKER, 100):
            seen[incoming.message.id] += 1
            await incoming.ack()
            if len(seen) == count:
                break
    return seen


async def test_taken_is_kept(transport: AmqpTransport, open_transport: OpenTransport) -> None:
    """What was taken arrives with its bytes, persistent and described by its properties."""
    sent = [news(number) for number in range(300)]

    assert sent == await transport.publish(sent)
    assert {message.id for message in sent} == set(await arrived(open_transport(), 300))


async def test_properties(transport: AmqpTransport, fleet_vhost: Vhost) -> None:
    """On the wire a message is structured CloudEvents with its attributes as properties and headers."""
    await transport.publish([news(1)])
    (found,) = await drained(fleet_vhost.url, names.inbound(WORKER), 1)

    assert ("p-1", news(1).type, "c") == (found.message_id, found.type, found.correlation_id)
    assert (WORKER, WORKER) == (found.user_id, found.app_id)
    assert ("application/cloudevents+json; charset=utf-8", 2) == (found.content_type, found.delivery_mode)
    assert ManualClock().now() == found.timestamp
    assert "p-1" == found.headers["cloudEvents_id"]
    assert news(1).body == found.body


async def test_another_logins_message(transport: AmqpTransport) -> None:
    """What another login has to publish is left to that login."""
    assert [news(1)] == await transport.publish([move("m", "operator"), news(1)])


async def test_fact_without_consumers(transport: AmqpTransport, fleet_vhost: Vhost) -> None:
    """A fact that no worker takes is kept by the stream, and counts as published."""
    event = PolicyCreated(
        policy="p",
        name="p",
        tenant="acme",
        workload=Workload.MAILBOX,
        mode=AvailabilityMode.STANDARD,
        version=1,
        keys=("local://a/k", "local://b/k"),
    )

    assert 1 == len(await transport.publish([message(event, "x")]))
    assert 0 == await depth(fleet_vhost.url, names.UNROUTED)


@pytest.mark.parametrize("publisher", ["portal", "a.b", "#", None])
async def test_answers_go_to_their_publisher(transport: AmqpTransport, fleet_vhost: Vhost, publisher: str) -> None:
    """An answer's key has its publisher as one word, and a login that is none can't get at another's."""
    async with await aio_pika.connect(fleet_vhost.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("answers")
        await queue.bind(await channel.get_exchange(names.ANSWERS_EXCHANGE), "answer.*.done")

    assert 1 == len(await transport.publish([answered(publisher)]))

    (found,) = await drained(fleet_vhost.url, "answers", 1)
    words = (found.routing_key or "").split(".")

    assert 3 == len(words)
    assert words[1].startswith({"portal": "portal", None: "local"}.get(publisher, "sha256-"))


async def test_unroutable(transport: AmqpTransport) -> None:
    """A message for which no queue is bound is not taken, and the channel goes on."""
    parcel = Parcel(names.retry_exchange(WORKER), "nowhere", wire.outgoing(news(1), WORKER))
    with pytest.raises(Unroutable):
        await transport.outlet.send(parcel)

    assert [news(2)] == await transport.publish([news(2)])


async def test_one_id_twice(transport: AmqpTransport) -> None:
    """Of two messages with one id, one of them unroutable, each gets its own result (law 11)."""
    lost = Parcel(names.retry_exchange(WORKER), "nowhere", wire.outgoing(news(1), WORKER))
    kept = Parcel(names.retry_exchange(WORKER), names.NOW, wire.outgoing(news(1), WORKER))
    outcomes = await transport.outlet.send_all([lost, kept] * 20)

    assert [Unroutable, None.__class__] * 20 == [type(outcome) for outcome in outcomes]


async def test_full_queue(transport: AmqpTransport, rabbit: RabbitNode, fleet_vhost: Vhost) -> None:
    """A full queue is told as not taken, nothing is lost, and it goes on when there is room (law 11)."""
    limit = {"pattern": r"^twinlock\.one\.in$", "apply-to": "queues", "definition": {"max-length": 3}}
    await asyncio.to_thread(rabbit.api, "PUT", f"/policies/{fleet_vhost.name}/full", limit)
    sent = [news(number) for number in range(60)]
    taken: list[Message] = []
    async with asyncio.timeout(30):
        while len(taken) == len(set(taken)) and len(taken) < 60:
            batch = [one for one in sent if one not in taken]
            taken += (now := await transport.publish(batch))
            if len(now) < len(batch):
                break
    with pytest.raises(NotTaken):
        await transport.outlet.send(Parcel(names.retry_exchange(WORKER), names.NOW, wire.outgoing(news(99), WORKER)))
    async with asyncio.TaskGroup() as group:
        seen = group.create_task(arrived(transport, 60))
        await published(transport, [one for one in sent if one not in taken])

    assert {one.id for one in sent} == set(seen.result())


async def test_subscribers_full_queue(
    open_transport: OpenTransport,
    rabbit: RabbitNode,
    fleet_vhost: Vhost,
    stranger: Stranger,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A subscriber whose full queue refuses alerts loses them; all others get each once, and our own queue has it."""
    channel = await stranger(fleet_vhost.url)
    hostile = await channel.declare_queue("hostile", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for queue in (hostile, await channel.declare_queue("peaceful")):
        await queue.bind(names.ALERTS_EXCHANGE, "alert.#")
    transport = open_transport(rabbit.user(fleet_vhost, WORKER, "^$", WRITE.replace("events", "alerts"), READ))
    sent = [alert(number) for number in range(5)]
    for one in sent:
        assert [one] == await transport.publish([one])

    assert {one.id for one in sent} == {one.message_id for one in await drained(fleet_vhost.url, "peaceful", 5)}
    assert 0 == await depth(fleet_vhost.url, "peaceful")
    assert [1, 4] == [await depth(fleet_vhost.url, queue) for queue in ("hostile", names.inbound(WORKER))]
    assert transport.trouble is None
    assert 4 == caplog.text.count("a subscriber's queue is full and refused the alert alert.customer.acme")


async def test_limit_lifted(transport: AmqpTransport, rabbit: RabbitNode, fleet_vhost: Vhost) -> None:
    """When a full queue has no limit any more, whoever was refused is heard again, on the same connection."""
    limit = {"pattern": r"^twinlock\.one\.in$", "apply-to": "queues", "definition": {"max-length": 1}}
    policy = f"/policies/{fleet_vhost.name}/full"
    await asyncio.to_thread(rabbit.api, "PUT", policy, limit)
    numbers = count(1)
    async with asyncio.timeout(30):
        while await transport.publish([news(next(numbers))]):
            pass
    connection = transport.publishing._connection
    await asyncio.to_thread(rabbit.api, "DELETE", policy)
    await published(transport, [news(next(numbers))])

    assert connection is transport.publishing._connection


async def test_refused_alone(transport: AmqpTransport) -> None:
    """One message that the broker refuses does not keep the others from leaving."""
    forged = wire.outgoing(news(1), WORKER)
    forged.user_id = "root"
    bad = Parcel(names.EVENTS_EXCHANGE, "policy.refreshed.v1", forged)
    good = [Parcel(names.EVENTS_EXCHANGE, "policy.refreshed.v1", wire.outgoing(news(n), WORKER)) for n in range(2, 30)]
    left = [*good[:10], bad, *good[10:]]
    for _ in range(5):  # as a relay would: what went down with the refused one's channel is offered again
        outcomes = await transport.outlet.send_all(left)
        left = [parcel for parcel, outcome in zip(left, outcomes, strict=True) if outcome is not None]

    assert [bad] == left


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_broker_restarts(transport: AmqpTransport, rabbit: RabbitNode, how: str) -> None:
    """What was confirmed survives a restart and a kill of the broker, and the rest goes out after it (law 11)."""
    first = [news(number) for number in range(50)]
    await published(transport, first)
    await asyncio.to_thread(getattr(rabbit, how))

    assert [] == await transport.publish([news(100)])

    await asyncio.to_thread(rabbit.start)
    await published(transport, [news(100)])

    assert {*(one.id for one in first), "p-100"} == set(await arrived(transport, 51))


@pytest.mark.parametrize("budget", [2_000, 20_000])
async def test_cut_in_a_frame(proxied_transport: AmqpTransport, proxy: Proxy, budget: int) -> None:
    """A connection that breaks in the middle of a frame loses nothing (law 11)."""
    sent = [news(number) for number in range(100)]
    await proxied_transport.publish([news(1000)])
    proxy.budget = budget
    taken = await proxied_transport.publish(sent)
    proxy.heal()
    await published(proxied_transport, [one for one in sent if one not in taken])

    assert len(taken) < 100
    assert {"p-1000", *(one.id for one in sent)} == set(await arrived(proxied_transport, 101))


async def test_half_open(proxied_transport: AmqpTransport, proxy: Proxy) -> None:
    """A connection on which nothing comes back any more is given up, and a new one is used."""
    await proxied_transport.publish([news(1)])
    before = proxy.accepted
    proxy.half_open()

    assert [] == await proxied_transport.publish([news(2)])

    proxy.heal()
    await published(proxied_transport, [news(2)])

    assert proxy.accepted > before


async def test_stalled_broker(transport: AmqpTransport, rabbit: RabbitNode) -> None:
    """A broker that stands still makes a publish fail in time, never end without a word."""
    await transport.publish([news(1)])
    async with stalled(rabbit):
        assert [] == await transport.publish([news(number) for number in range(2, 60)])
    await published(transport, [news(number) for number in range(2, 60)])

    assert 59 == len(await arrived(transport, 59))


async def test_memory_alarm(transport: AmqpTransport, rabbit: RabbitNode) -> None:
    """While the broker blocks publishers nothing is taken, acknowledgements go on, and afterwards all goes out."""
    await transport.publish([news(1)])
    (incoming,) = await take(transport, 1)
    await blocked(rabbit, "0.00001")
    try:
        assert [] == await transport.publish([news(2)])

        await incoming.ack()
    finally:
        await blocked(rabbit, "0.6")
    await published(transport, [news(2)])

    assert {"p-2"} == set(await arrived(transport, 1))


async def test_unrequested_cancellation(proxied_transport: AmqpTransport, proxy: Proxy) -> None:
    """Publishing in a task that nobody cancelled ends in an error of ours, not as cancelled."""
    await proxied_transport.publish([news(1)])
    proxy.half_open()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        pending = group.create_task(_failure(proxied_transport))
        await asyncio.sleep(0)
        await proxied_transport.publishing.drop()

    assert isinstance(pending.result(), BrokerGone)
    assert not pending.cancelled()


async def _failure(transport: AmqpTransport) -> BrokerGone | None:
    (outcome,) = await transport.outlet.send_all(
        [Parcel(names.EVENTS_EXCHANGE, "policy.refreshed.v1", wire.outgoing(news(2), WORKER))]
    )
    return outcome
