"""Dead letters: from the broker into the table once, and from the table back to the one worker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
import pytest
from sqlalchemy import func, select

from events import dead_letters
from events.amqp import names, wire
from events.amqp.collector import Collector, letter
from events.amqp.transport import AmqpTransport
from events.dead_letters import DeadLetter
from events.transport import Message
from tests.integration.amqp.fleet import SOURCE, WORKER, OpenTransport, Stranger, ask, move, news, take
from tests.servers.rabbitmq import Vhost
from twinlock.store.tables.bus import deliveries, outbox
from twinlock.store.unit import Cause, Store

OpenStore = Callable[[], Awaitable[Store]]


async def letters(store: Store) -> list[DeadLetter]:
    async with store.read() as reader:
        return list(await dead_letters.listing(reader))


async def collected(transport: AmqpTransport, store: Store, count: int) -> list[DeadLetter]:
    """Collect until the table has so many letters."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(Collector(transport, store, WORKER).collect())
        while len(await letters(store)) < count:
            continue
        await transport.drain()
    return await letters(store)


async def test_reason_and_publisher(
    transport: AmqpTransport, open_transport: OpenTransport, stranger: Stranger, portal_url: str, store: Store
) -> None:
    """A letter in the table says whose request it was, how often it was tried and why it was given up."""
    await ask(await stranger(portal_url), move("m-1").body, "portal")
    (incoming,) = await take(transport, 1)
    await incoming.dead_letter("no hope")
    (found,) = await collected(open_transport(), store, 1)

    assert (WORKER, "portal", SOURCE, "m-1") == (found.consumer, found.publisher, found.source, found.id)
    assert (1, "no hope") == (found.attempts, found.reason)


async def test_collected_once(transport: AmqpTransport, open_transport: OpenTransport, store: Store) -> None:
    """A letter whose acknowledgement was lost is in the table once, with one event about it (law 11)."""
    await transport.publish([news(1)])
    (incoming,) = await take(transport, 1)
    await incoming.dead_letter("no hope")
    first = open_transport()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(_collect_unacknowledged(first, store))
    await transport.publish([news(2)])
    (behind,) = await take(transport, 1)
    await behind.dead_letter("no hope either")
    found = await collected(open_transport(), store, 2)  # one by one: the repeated letter stands before this one

    assert ["p-1", "p-2"] == [one.id for one in found]
    async with store.read() as reader:
        assert 4 == await reader.scalar(select(func.count()).select_from(outbox))  # an event and an alert each


async def _collect_unacknowledged(transport: AmqpTransport, store: Store) -> None:
    taking = transport.take(names.letter_queue(WORKER), 1)
    taken = await taking.next()
    assert taken is not None

    collector = Collector(transport, store, WORKER)

    assert await collector._buried(letter(taken[1], WORKER))

    await transport.consuming.drop()


async def test_delivered_twice(transport: AmqpTransport, open_transport: OpenTransport, store: Store) -> None:
    """Two copies of a message that are both given up are one letter, with one event and one alert (law 11)."""
    for number in (1, 1, 2):
        await transport.publish([news(number)])
        (incoming,) = await take(transport, 1)
        await incoming.dead_letter("no hope")
    found = await collected(open_transport(), store, 2)  # one by one: the second copy's letter stands before the last

    assert ["p-1", "p-2"] == [one.id for one in found]
    async with store.read() as reader:
        assert 4 == await reader.scalar(select(func.count()).select_from(outbox))


async def test_given_up_again(transport: AmqpTransport, open_transport: OpenTransport, store: Store) -> None:
    """A message that was put back, be it twice, is one letter again when it is given up again."""
    await transport.publish([news(1)])
    (incoming,) = await take(transport, 1)
    await incoming.dead_letter("before")
    await collected(open_transport(), store, 1)
    async with store.begin(Cause("retry")) as unit:
        await dead_letters.retry(unit)
    collector = Collector(transport, store, WORKER)
    async with store.read() as reader:
        (row,) = await reader.rows(select(deliveries))
    await transport.send_all([collector._parcel(row)])  # as by a process that was killed right after it
    await collector.put_back_once()
    for copy in await take(transport, 2):
        await copy.dead_letter("after")
    await transport.publish([news(2)])
    (behind,) = await take(transport, 1)
    await behind.dead_letter("behind")
    found = await collected(open_transport(), store, 2)

    assert ["after", "behind"] == [one.reason for one in found]


async def test_back_to_its_worker(
    transport: AmqpTransport, open_transport: OpenTransport, stranger: Stranger, portal_url: str, store: Store
) -> None:
    """A letter that is put back reaches its worker as new, with the publisher it came with, and leaves the table."""
    await ask(await stranger(portal_url), move("m-1").body, "portal")
    (incoming,) = await take(transport, 1)
    await incoming.dead_letter("no hope")
    await collected(open_transport(), store, 1)
    async with store.begin(Cause("retry")) as unit:
        await dead_letters.retry(unit)

    assert 1 == await Collector(transport, store, WORKER).put_back_once()

    (back,) = await take(transport, 1)

    assert (move("m-1"), 0) == (back.message, back.attempts)
    assert [] == await letters(store)
    async with store.read() as reader:
        assert 0 == await reader.scalar(select(func.count()).select_from(deliveries))


async def test_kept_while_the_broker_is_away(
    open_transport: OpenTransport, worker_url: str, store: Store, transport: AmqpTransport
) -> None:
    """What can't be put back now stays in the table."""
    async with store.begin(Cause("retry")) as unit:
        await dead_letters.bury(unit, WORKER, news(1), 1, "no hope")
        await dead_letters.retry(unit)
    away = open_transport(worker_url.replace("@127.0.0.1", "@localhost.invalid"))

    assert 0 == await Collector(away, store, WORKER).put_back_once()
    assert 1 == await Collector(transport, store, WORKER).put_back_once()


async def test_rubbish_is_collected(transport: AmqpTransport, open_transport: OpenTransport, store: Store) -> None:
    """A letter that can't be read is kept all the same, with its bytes and names that fit."""
    await transport.publish([Message(WORKER, SOURCE, "p-1", news(1).type, "c", b"\xff{}")])
    taking = transport.deliveries(WORKER, 1)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(anext(taking, None))
        (found,) = await collected(open_transport(), store, 1)
        await transport.drain()

    assert waiting.result() is None
    assert (WORKER, "p-1", 1) == (found.publisher, found.id, found.attempts)
    assert found.reason.startswith("malformed: ")


@pytest.mark.parametrize("forged", [True, False])
async def test_given_up_by_the_broker(fleet_vhost: Vhost, forged: bool) -> None:
    """A letter that the broker itself made has its true publisher, whatever headers an outsider wrote (law 13)."""
    headers: dict[str, Any] = {wire.PUBLISHER: WORKER, wire.REASON: "forged", wire.LETTER: "forged", wire.ATTEMPT: 7}
    death: Any = [
        {"reason": "delivery_limit", "queue": names.inbound(WORKER), "exchange": names.retry_exchange(WORKER)}
    ]
    outgoing = wire.outgoing(move("m-1"), "guest")
    outgoing.headers.update({"x-death": death}, **(headers if forged else {}))
    async with await aio_pika.connect(fleet_vhost.url) as connection:
        channel = await connection.channel()
        await (await channel.get_exchange(names.REQUESTS_EXCHANGE)).publish(outgoing, "move.requested.v1")
        queue = await channel.get_queue(names.inbound(WORKER))
        found = await queue.get()
        read = letter(found, WORKER)

    assert ("guest", 0) == (read.message.publisher, read.attempts)
    assert "crash-loop: the worker ended again and again while it handled this" == read.reason
