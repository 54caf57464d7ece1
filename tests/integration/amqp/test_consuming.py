"""Consuming: what was not settled comes again, and nothing keeps a worker from consuming for long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from events.amqp import names, wire
from events.amqp.connection import Link
from events.amqp.declare import declare
from events.amqp.publishing import Parcel
from events.amqp.topology import fleet
from events.amqp.transport import AmqpIncoming, AmqpTransport
from events.amqp.trouble import BrokerGone
from tests.integration.amqp.fleet import (
    TAKES,
    TIERS,
    WORKER,
    OpenTransport,
    depth,
    drained,
    news,
    some,
    soon,
    stalled,
    take,
)
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitNode, Vhost


@asynccontextmanager
async def consuming(transport: AmqpTransport) -> AsyncIterator[set[str]]:
    """Take and acknowledge all the time; yield what came."""
    seen: set[str] = set()

    async def consume() -> None:
        async for incoming in transport.deliveries(WORKER, 10):
            seen.add(incoming.message.id)
            try:
                await incoming.ack()
            except BrokerGone:
                continue  # it comes again

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(consume())
        yield seen
        await transport.drain()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_goes_on_after_a_restart(
    open_transport: OpenTransport, rabbit: RabbitNode, worker_url: str, how: str
) -> None:
    """A consumer goes on by itself after the broker was stopped or killed, and nothing is lost (law 11)."""
    sender = open_transport()
    async with consuming(open_transport()) as seen:
        await sender.publish([news(1)])
        await soon(lambda: "p-1" in seen)
        await asyncio.to_thread(getattr(rabbit, how))
        await asyncio.to_thread(rabbit.start)
        while not await sender.publish([news(2)]):
            pass
        await soon(lambda: "p-2" in seen)

    assert {"p-1", "p-2"} == seen


@pytest.mark.parametrize("how", ["cut", "half-open"])
async def test_goes_on_after_a_cut(
    proxied_transport: AmqpTransport, transport: AmqpTransport, proxy: Proxy, how: str
) -> None:
    """A consumer whose connection is cut, or stays open with nothing coming, connects again by itself."""
    async with consuming(proxied_transport) as seen:
        await transport.publish([news(1)])
        await soon(lambda: "p-1" in seen)
        before = proxy.accepted
        if how == "cut":
            proxy.cut()
        else:
            proxy.half_open()
            await soon(lambda: not proxied_transport.healthy)
            proxy.heal()
        await soon(lambda: proxy.accepted > before)
        await transport.publish([news(2)])
        await soon(lambda: "p-2" in seen)

    assert {"p-1", "p-2"} == seen


async def test_goes_on_after_a_stall(
    transport: AmqpTransport, rabbit: RabbitNode, open_transport: OpenTransport
) -> None:
    """A consumer outlives a broker that stands still."""
    async with consuming(transport) as seen:
        await open_transport().publish([news(1)])
        await soon(lambda: "p-1" in seen)
        async with stalled(rabbit):
            await soon(lambda: not transport.healthy)
        sender = open_transport()
        while not await sender.publish([news(2)]):
            pass
        await soon(lambda: "p-2" in seen)

    assert {"p-1", "p-2"} == seen


async def test_queue_deleted(transport: AmqpTransport, rabbit: RabbitNode, fleet_vhost: Vhost) -> None:
    """A consumer whose queue is deleted is unhealthy, and consumes again once it was declared."""
    async with consuming(transport) as seen:
        await transport.publish([news(1)])
        await soon(lambda: "p-1" in seen)
        path = f"/queues/{fleet_vhost.name}/{names.inbound(WORKER)}"
        await asyncio.to_thread(rabbit.api, "DELETE", path)
        await soon(lambda: not transport.healthy)
        link = Link(fleet_vhost.url, "declares")
        await declare(link, fleet(TAKES, TIERS))
        await link.close()
        await transport.publish([news(2)])
        await soon(lambda: "p-2" in seen)

    assert {"p-1", "p-2"} == seen


async def test_consumer_forgotten(transport: AmqpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that the broker has lost without a word is found out by the watchdog, and replaced."""
    async with consuming(transport) as seen:
        await transport.publish([news(1)])
        await soon(lambda: "p-1" in seen)
        (taking,) = transport._takings
        session = taking._session
        assert session is not None
        assert session._queue is not None
        monkeypatch.setattr(session, "end", lambda *_: None)  # nobody tells
        await session._queue.cancel(session._tag)
        monkeypatch.undo()
        await transport.publish([news(2)])
        await soon(lambda: "p-2" in seen)

    assert {"p-1", "p-2"} == seen


async def test_drain_with_prefetched(
    transport: AmqpTransport, open_transport: OpenTransport, fleet_vhost: Vhost
) -> None:
    """Drain lets what runs be acknowledged, hands the rest to others, and has started none of it (law 11)."""
    await transport.publish([news(number) for number in range(20)])
    taking = transport.deliveries(WORKER, 10)
    running = await some(taking, 3)
    await transport.drain()

    assert [] == [late async for late in taking]

    for incoming in running:
        await incoming.ack()
    await transport.close()
    rest = await take(open_transport(), 17)

    assert {f"p-{number}" for number in range(20)} == {one.message.id for one in [*running, *rest]}
    assert 0 == await depth(fleet_vhost.url, names.inbound(WORKER))


async def test_drain_without_a_broker(
    open_transport: OpenTransport, proxy: Proxy, proxied_transport: AmqpTransport
) -> None:
    """Draining ends in time while the broker can't be reached."""
    proxy.refuses = True
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiting = group.create_task(_all(proxied_transport))
        await soon(lambda: proxy.accepted > 2)
        await proxied_transport.close()

    assert [] == waiting.result()


async def _all(transport: AmqpTransport) -> list[AmqpIncoming]:
    return [incoming async for incoming in transport.deliveries(WORKER, 1)]


async def test_acknowledged_too_late(transport: AmqpTransport) -> None:
    """An acknowledgement after the connection was lost fails in words of ours, and the delivery comes again."""
    await transport.publish([news(1)])
    taking = transport.deliveries(WORKER, 1)
    (first,) = await some(taking, 1)
    await transport.consuming.drop()
    with pytest.raises(BrokerGone):
        await first.ack()
    (again,) = await some(taking, 1)
    await again.ack()

    assert first.message == again.message


async def test_settled_later(
    transport: AmqpTransport, rabbit: RabbitNode, fleet_vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    """A settlement for which a queue has no room is tried until it has: given back, it would count as a crash."""
    full = {"pattern": r"\.dlq$", "apply-to": "queues", "definition": {"max-length": 1}}
    await asyncio.to_thread(rabbit.api, "PUT", f"/policies/{fleet_vhost.name}/full", full)
    filler = Parcel(names.letter_exchange(WORKER), names.DLX_KEY, wire.outgoing(news(9), WORKER))
    async with asyncio.timeout(30):
        while not any(await transport.outlet.send_all([filler])):
            continue  # a policy takes its time
    await transport.publish([news(1)])
    (first,) = await take(transport, 1)
    async with asyncio.TaskGroup() as group:
        settling = group.create_task(first.dead_letter("no hope"))
        await soon(lambda: "can't be settled now" in caplog.text)
        pending = not settling.done()
        path = f"/queues/{fleet_vhost.name}/{names.letter_queue(WORKER)}/contents"
        await asyncio.to_thread(rabbit.api, "DELETE", path)
    (letter,) = await drained(fleet_vhost.url, names.letter_queue(WORKER), 1)

    assert pending
    assert ("p-1", "no hope") == (letter.message_id, letter.headers[wire.REASON])
    assert 0 == await depth(fleet_vhost.url, names.inbound(WORKER))


async def test_crash_loop_is_handled_alone(
    transport: AmqpTransport, open_transport: OpenTransport, worker_url: str
) -> None:
    """Deliveries that three processes died over are handled one at a time."""
    await transport.publish([news(number) for number in range(4)])
    for _ in range(3):
        dying = open_transport()
        await take(dying, 4)
        await dying.consuming.drop()
    taking = open_transport().deliveries(WORKER, 10)
    (first,) = await some(taking, 1)
    await soon(lambda: first._session.local.qsize() == 3)  # the others are here, and only held back
    async with asyncio.TaskGroup() as group:
        second = group.create_task(some(taking, 1))
        for _ in range(50):
            await asyncio.sleep(0)
        alone = not second.done()
        await first.ack()

    assert alone
    assert first.message.id != second.result()[0].message.id


async def test_given_up_by_the_broker(
    transport: AmqpTransport, open_transport: OpenTransport, fleet_vhost: Vhost
) -> None:
    """A delivery over which process after process dies ends at the dead letters, and frees the queue."""
    await transport.publish([news(1)])
    async with asyncio.timeout(60):
        while not await depth(fleet_vhost.url, names.letter_queue(WORKER)):
            dying = open_transport()
            async with asyncio.TaskGroup() as group:
                taking = group.create_task(_first(dying))
                while not taking.done() and not await depth(fleet_vhost.url, names.letter_queue(WORKER)):
                    continue
                await dying.consuming.drop()
                await dying.drain()
    (letter,) = await drained(fleet_vhost.url, names.letter_queue(WORKER), 1)

    assert "delivery_limit" == letter.headers["x-death"][0]["reason"]  # type: ignore[index,call-overload]


async def _first(transport: AmqpTransport) -> AmqpIncoming | None:
    return await anext(transport.deliveries(WORKER, 1), None)
