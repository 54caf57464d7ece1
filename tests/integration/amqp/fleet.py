"""A fleet of one worker: its messages, its permissions, and what strangers do with bare aio-pika."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel

from events.amqp import names
from events.amqp.connection import LinkSettings
from events.amqp.consuming import ConsumingSettings
from events.amqp.publishing import OutletSettings
from events.amqp.transport import AmqpDeliveries, AmqpIncoming, AmqpSettings, AmqpTransport
from events.transport import Message
from schemas.envelope import enclose, serialise
from schemas.event import Event
from schemas.facts import AlertChanged, PolicyRefreshed, RequestAnswered
from schemas.identifiers import AlertNews, Audience, Severity
from schemas.requests import MoveRequested
from tests.servers.rabbitmq import RabbitNode
from twinlock.clock import ManualClock

WORKER = "one"
SOURCE = "urn:twinlock:test"
TIERS = (0.02, 1.0)
TAKES = {WORKER: [PolicyRefreshed.type, MoveRequested.type]}
QUICK = AmqpSettings(
    tiers=TIERS,
    link=LinkSettings(heartbeat=1, connect=3.0, call=3.0, longest_pause=0.5),
    outlet=OutletSettings(confirm=2.0),
    consuming=ConsumingSettings(silence=1.0, settle=2.0, longest_pause=0.5),
)
# All that a worker has: nothing to configure, its own queues, its own exchanges.
WRITE = rf"^twinlock\.(events|answers|rejected|{WORKER}\.(retry|dlx))$"
READ = rf"^twinlock\.{WORKER}\..*$"

OpenTransport = Callable[..., AmqpTransport]
Stranger = Callable[[str], Awaitable[AbstractChannel]]


def message(event: Event, event_id: str, publisher: str = WORKER) -> Message:
    envelope = enclose(
        event, event_id=event_id, source=SOURCE, time=ManualClock().now(), correlation="c", causation=None
    )
    return Message(publisher, SOURCE, event_id, event.type, "c", serialise(envelope))


def news(number: int) -> Message:
    event = PolicyRefreshed(policy="p", version=number + 1, tenant="acme", generation=1, key_versions={})
    return message(event, f"p-{number}")


def alert(number: int) -> Message:
    now = ManualClock().now().isoformat(timespec="microseconds")
    event = AlertChanged(
        alert=f"a-{number}",
        version=1,
        news=AlertNews.OPENED,
        kind="key-revoked",
        severity=Severity.WARNING,
        audience=Audience.CUSTOMER,
        tenant="acme",
        detail="",
        count=1,
        first_seen=now,
        last_seen=now,
    )
    return message(event, f"a-{number}")


def move(event_id: str, publisher: str = "portal") -> Message:
    return message(MoveRequested(mailbox="ann@acme.example"), event_id, publisher)


def answered(publisher: str | None) -> Message:
    event = RequestAnswered(
        request="r", request_source=SOURCE, request_type="t", outcome="done", detail="", publisher=publisher
    )
    return message(event, "answer")


async def take(transport: AmqpTransport, count: int, prefetch: int = 20) -> list[AmqpIncoming]:
    return await some(transport.deliveries(WORKER, prefetch), count)


async def some(taking: AmqpDeliveries, count: int) -> list[AmqpIncoming]:
    async with asyncio.timeout(60):
        return [await anext(taking) for _ in range(count)]


async def drained(url: str, queue: str, count: int) -> list[aio_pika.abc.AbstractIncomingMessage]:
    """Wait until a queue has so many messages, and return them."""
    async with asyncio.timeout(60), await aio_pika.connect(url) as connection:
        found = await (await connection.channel()).get_queue(queue)
        messages: list[aio_pika.abc.AbstractIncomingMessage] = []
        while len(messages) < count:
            if (one := await found.get(fail=False, no_ack=True)) is not None:
                messages.append(one)
        return messages


async def depth(url: str, queue: str) -> int:
    async with await aio_pika.connect(url) as connection:
        found = await (await connection.channel()).declare_queue(queue, passive=True)
        return int(found.declaration_result.message_count or 0)


async def ask(channel: AbstractChannel, body: bytes, user: str | None, **properties: Any) -> None:
    """Publish to the requests as a stranger would."""
    exchange = await channel.get_exchange(names.REQUESTS_EXCHANGE)
    kind = properties.pop("content_type", "application/cloudevents+json")
    outgoing = aio_pika.Message(body, user_id=user, content_type=kind, **properties)
    await exchange.publish(outgoing, "move.requested.v1", timeout=10)


@asynccontextmanager
async def stalled(node: RabbitNode) -> AsyncIterator[None]:
    """Stall the node for the block."""
    node.pause()
    try:
        yield
    finally:
        node.resume()


async def blocked(node: RabbitNode, watermark: str) -> None:
    """Set the memory watermark: a tiny one blocks all publishers."""
    await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", watermark)


async def soon(happened: Callable[[], bool]) -> None:
    """Wait until something happened, for as long as a busy machine may need."""
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110  # what is looked at knows of no event
            await asyncio.sleep(0.005)
