"""What comes from outside: structured and binary requests, rubbish, forgeries, and headers that nobody believes."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import AMQPError
from pamqp import encode

from events.amqp import names, wire
from events.amqp.transport import AmqpTransport
from events.transport import Message
from schemas.envelope import parse
from schemas.facts import RequestAnswered
from schemas.names import OPERATOR
from tests.integration.amqp.fleet import SOURCE, WORKER, Stranger, ask, depth, drained, move, news, some, take
from tests.servers.rabbitmq import RabbitNode, Vhost

BODY = json.loads(move("m-1").body)
HEADERS = {name: str(value) for name, value in BODY.items() if name not in ("data", "datacontenttype")}


async def test_structured(transport: AmqpTransport, stranger: Stranger, portal_url: str) -> None:
    """A structured request arrives as its very bytes, from the login that the broker vouches for."""
    await ask(await stranger(portal_url), move("m-1").body, "portal")
    (incoming,) = await take(transport, 1)

    assert move("m-1") == incoming.message
    assert 0 == incoming.attempts


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:", "ce-"])
async def test_binary(transport: AmqpTransport, stranger: Stranger, portal_url: str, prefix: str) -> None:
    """A request in binary mode, with any of the three prefixes, is the same event."""
    headers = {prefix + name: value for name, value in HEADERS.items()}
    data = json.dumps(BODY["data"]).encode()
    await ask(await stranger(portal_url), data, "portal", headers=headers, content_type="application/json")
    (incoming,) = await take(transport, 1)

    assert parse(move("m-1").body) == parse(incoming.message.body)
    assert ("portal", SOURCE, "m-1") == (incoming.message.publisher, incoming.message.source, incoming.message.id)


async def test_forged_login(stranger: Stranger, portal_url: str) -> None:
    """A login can't publish under another's name: the broker itself refuses."""
    with pytest.raises((AMQPError, RuntimeError), match="user_id"):
        await ask(await stranger(portal_url), move("m-1").body, WORKER)


async def test_only_requests(stranger: Stranger, portal_url: str) -> None:
    """A publisher from outside can't write to any other exchange."""
    channel = await stranger(portal_url)
    exchange = await channel.get_exchange(names.retry_exchange(WORKER), ensure=False)
    with pytest.raises((AMQPError, RuntimeError), match="refused"):
        await exchange.publish(wire.outgoing(news(1), "portal"), names.NOW)


REFUSED: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "not-json": (b"\xff\x00", {}, "malformed: "),
    "too-large": (b" " * 70_000, {}, "too-large: the message has 70000 bytes; the limit is 65536"),
    "neither-mode": (move("m-1").body, {"content_type": "application/json"}, "malformed: content_type: "),
    "a-batch": (b"[]", {"content_type": "application/cloudevents-batch+json"}, "malformed: content_type: "),
    "unknown": (move("m-1").body.replace(b"move", b"muse"), {}, "unknown-type: "),
    "injected": (
        b'{"mailbox":"a@b.c"},"id":"other"',
        {"content_type": "application/json", "headers": {f"ce-{n}": v for n, v in HEADERS.items()}},
        "malformed: data: ",
    ),
    "half-a-character": (
        b'{"specversion":"1.0","id":"m-1","source":"\\ud800","type":"\\ud800","data":{}}',
        {},
        "malformed: ",
    ),
    "twice": (
        b"{}",
        {"content_type": "application/json", "headers": {"ce-id": "a", "cloudEvents_id": "b"}},
        "malformed: headers: ",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_rubbish(
    transport: AmqpTransport, stranger: Stranger, portal_url: str, fleet_vhost: Vhost, kind: str
) -> None:
    """Rubbish never reaches a handler: it is kept cut to size, answered to its publisher, and halts nobody."""
    body, properties, reason = REFUSED[kind]
    channel = await stranger(portal_url)
    await ask(channel, body, "portal", message_id="m-1", **properties)
    await ask(channel, move("m-2").body, "portal")
    (incoming,) = await take(transport, 1)
    (kept,) = await drained(fleet_vhost.url, names.REJECTED, 1)
    answer = await _answer(fleet_vhost, transport)

    assert "m-2" == incoming.message.id
    assert str(kept.headers[wire.REASON]).startswith(reason)
    assert body[: 64 * 1024] == kept.body
    assert ("m-1", "refused", "portal") == (answer.request, answer.outcome, answer.publisher)
    assert answer.detail.startswith(reason)


async def test_from_the_future(
    transport: AmqpTransport, stranger: Stranger, rabbit: RabbitNode, fleet_vhost: Vhost
) -> None:
    """What a newer command asks for is put aside until the worker is upgraded: it is not refused."""
    channel = await stranger(rabbit.user(fleet_vhost, OPERATOR, "^$", r"^twinlock\.requests$", "^$"))
    await ask(channel, move("m-1").body.replace(b"move", b"muse"), OPERATOR, message_id="m-1")
    await ask(channel, move("m-2").body, OPERATOR)
    (incoming,) = await take(transport, 1)
    (kept,) = await drained(fleet_vhost.url, names.letter_queue(WORKER), 1)

    assert "m-2" == incoming.message.id
    assert str(kept.headers[wire.REASON]).startswith("from the future: unknown-type: ")
    assert 0 == await depth(fleet_vhost.url, names.REJECTED)


async def _answer(vhost: Vhost, transport: AmqpTransport) -> RequestAnswered:
    """Read the first answer from the stream that keeps them."""
    found: asyncio.Queue[bytes] = asyncio.Queue()

    async def got(message: AbstractIncomingMessage) -> None:
        found.put_nowait(message.body)

    async with asyncio.timeout(30), await aio_pika.connect(vhost.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        log = await channel.get_queue(names.log_queue(names.ANSWERS_EXCHANGE))
        await log.consume(got, arguments={"x-stream-offset": "first"})
        _envelope, event = parse(await found.get())
    assert isinstance(event, RequestAnswered)
    return event


SPOILT: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "no-time": ("timestamp", lambda _value: b"\xff" * 8),
    "no-text": ("shortstr", lambda value: encode.short_string(value).replace(b"spoilt", b"\xff\xfeoilt")),
}


@pytest.mark.parametrize("kind", SPOILT)
async def test_illegible_properties(
    transport: AmqpTransport,
    stranger: Stranger,
    portal_url: str,
    fleet_vhost: Vhost,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """A message whose properties nobody can read is kept among the rejected, and cuts off nobody who consumes."""
    channel = await stranger(portal_url)
    exchange = await channel.get_exchange(names.REQUESTS_EXCHANGE)
    properties: dict[str, Any] = {"timestamp": 1, "app_id": "spoilt", "content_type": "application/cloudevents+json"}
    with monkeypatch.context() as patch:
        patch.setitem(encode.METHODS, *SPOILT[kind])
        message = aio_pika.Message(move("m-1").body, user_id="portal", **properties)
        await exchange.publish(message, "move.requested.v1", timeout=10)
    taking = transport.deliveries(WORKER, 20)
    await ask(channel, move("m-2").body, "portal")
    (incoming,) = await some(taking, 1)
    (kept,) = await drained(fleet_vhost.url, names.REJECTED, 1)

    assert ("m-2", False) == (incoming.message.id, incoming._delivery.redelivered)
    assert move("m-1").body == kept.body
    assert str(kept.headers[wire.REASON]).startswith("no-user-id: ")


async def test_before_1970(transport: AmqpTransport, stranger: Stranger, portal_url: str) -> None:
    """A request with a time before all AMQP times is retried as any other."""
    body = re.sub(rb'"time":"[^"]*"', b'"time":"1900-01-01T00:00:00Z"', move("m-1").body)
    await ask(await stranger(portal_url), body, "portal")
    taking = transport.deliveries(WORKER, 20)
    (first,) = await some(taking, 1)
    await first.retry(0.0, "later")
    (again,) = await some(taking, 1)

    assert (body, 1) == (again.message.body, again.attempts)


async def test_nobody_vouches(
    transport: AmqpTransport, stranger: Stranger, portal_url: str, fleet_vhost: Vhost
) -> None:
    """A request without `user_id` is refused, and answered to nobody (law 13)."""
    channel = await stranger(portal_url)
    await ask(channel, move("m-1").body, None)
    await ask(channel, move("m-2").body, "portal")
    (incoming,) = await take(transport, 1)
    (kept,) = await drained(fleet_vhost.url, names.REJECTED, 1)

    assert "m-2" == incoming.message.id
    assert str(kept.headers[wire.REASON]).startswith("no-user-id: ")
    assert 0 == await depth(fleet_vhost.url, names.UNROUTED)


async def test_headers_from_outside(transport: AmqpTransport, stranger: Stranger, portal_url: str) -> None:
    """What an outsider writes into our headers is not believed, neither name nor count (law 13)."""
    headers = {wire.PUBLISHER: WORKER, wire.ATTEMPT: 4, wire.REASON: "forged", "x-delivery-count": 9}
    await ask(await stranger(portal_url), move("m-1").body, "portal", headers=headers)
    (incoming,) = await take(transport, 1)

    assert ("portal", 0) == (incoming.message.publisher, incoming.attempts)


async def test_retried_copy(transport: AmqpTransport, stranger: Stranger, portal_url: str) -> None:
    """A retried request keeps the publisher that it came with, though another login made the copy (law 13)."""
    await ask(await stranger(portal_url), move("m-1").body, "portal")
    for attempt in range(3):
        (incoming,) = await take(transport, 1)

        assert ("portal", attempt, move("m-1").body) == (
            incoming.message.publisher,
            incoming.attempts,
            incoming.message.body,
        )

        await incoming.retry(0.0, "trouble")


async def test_rejected_by_a_consumer(
    transport: AmqpTransport, stranger: Stranger, portal_url: str, fleet_vhost: Vhost
) -> None:
    """What a consumer rejects is kept with the reason, and answered to its publisher."""
    await ask(await stranger(portal_url), move("m-1").body, "portal")
    (incoming,) = await take(transport, 1)
    await incoming.reject("not a registered publisher")
    (kept,) = await drained(fleet_vhost.url, names.REJECTED, 1)
    answer = await _answer(fleet_vhost, transport)

    assert "not a registered publisher" == kept.headers[wire.REASON] == answer.detail
    assert ("m-1", SOURCE, "portal") == (answer.request, answer.request_source, answer.publisher)


async def test_rubbish_from_inside(transport: AmqpTransport, fleet_vhost: Vhost) -> None:
    """What a worker publishes and nobody can read is a dead letter, which people look into."""
    await transport.publish([Message(WORKER, SOURCE, "p-1", news(1).type, "c", b"{}"), news(2)])
    (incoming,) = await take(transport, 1)
    (letter,) = await drained(fleet_vhost.url, names.letter_queue(WORKER), 1)

    assert "p-2" == incoming.message.id
    assert str(letter.headers[wire.REASON]).startswith("malformed: ")
    assert 0 == await depth(fleet_vhost.url, names.REJECTED)


async def test_unbound_request(stranger: Stranger, portal_url: str, fleet_vhost: Vhost) -> None:
    """A request of a type that no worker takes is kept among the unrouted."""
    channel = await stranger(portal_url)
    exchange = await channel.get_exchange(names.REQUESTS_EXCHANGE)
    await exchange.publish(wire.outgoing(move("m-1"), "portal"), "nobody.requested.v1")

    assert 1 == len(await drained(fleet_vhost.url, names.UNROUTED, 1))
