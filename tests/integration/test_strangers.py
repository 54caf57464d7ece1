"""Outsiders at a real broker: what it verifies for us, what they are told, and what stays of what they send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelClosed
from sqlalchemy import select

from events.amqp import names
from events.amqp.connection import Link
from events.amqp.declare import declare
from events.amqp.topology import fleet
from events.amqp.transport import AmqpTransport
from events.answers import answer
from events.authority.admission import FORBIDDEN, UNREGISTERED
from events.authority.publishers import Registration, register
from events.consumer import ConsumerRuntime
from events.handler import Received
from events.ladder import Ladder
from events.relay import Relay
from schemas.envelope import MAX_MESSAGE_BYTES
from schemas.facts import ReencryptionWoken
from schemas.identifiers import RequestOutcome
from schemas.names import DEP_ASSIGNER
from schemas.requests import MoveRequested, RefreshRequested
from twinlock.clock import SystemClock
from twinlock.store.tables.bus import dead_letters, inbox
from twinlock.store.tables.work import requests
from twinlock.store.unit import Cause, Store, Unit

if TYPE_CHECKING:
    from tests.servers.rabbitmq import RabbitNode, Vhost

pytestmark = pytest.mark.servers

STRANGER = "stranger"
KEY = "refresh.requested.v1"
STRUCTURED = "application/cloudevents+json"


class Refresh:
    """Stand for the worker's handler."""

    consumer = DEP_ASSIGNER
    handles = RefreshRequested

    async def prepare(self, event: RefreshRequested, received: Received) -> Received:
        """Do nothing slow."""
        return received

    async def commit(self, unit: Unit, plan: Received) -> None:
        """Answer."""
        await answer(unit, plan.asked, RequestOutcome.DONE, {}, f"for {plan.publisher}")


@dataclass(frozen=True)
class Outside:
    """Hold what a stranger has: a channel, and a queue for the answers to its login."""

    channel: AbstractChannel
    answers: AbstractQueue
    store: Store
    node: "RabbitNode"
    vhost: str

    async def publish(self, body: bytes, key: str = KEY, **properties: Any) -> None:
        """Publish to the requests, as this login unless the properties say otherwise."""
        given = {"user_id": STRANGER, "content_type": STRUCTURED, **properties}
        exchange = await self.channel.get_exchange(names.REQUESTS_EXCHANGE, ensure=False)
        await exchange.publish(aio_pika.Message(body, **given), key, timeout=10)

    async def told(self) -> tuple[str, dict[str, Any]]:
        """Return the routing key and the event of the next answer."""
        async with asyncio.timeout(30), self.answers.iterator() as messages:
            async for message in messages:
                await message.ack()
                return message.routing_key or "", json.loads(message.body)
        raise AssertionError("no answer")

    async def register(self) -> None:
        """Have the login registered."""
        async with self.store.begin(Cause("test")) as unit:
            await register(unit, Registration(STRANGER, (), True, (RefreshRequested.type,)))

    async def rows(self) -> int:
        """Count what is stored of requests and of what was given up."""
        async with self.store.read() as reader:
            return sum([len(await reader.rows(select(table))) for table in (requests, inbox, dead_letters)])

    def kept(self) -> list[str]:
        """Return the reasons with which something is kept among the rejected."""
        asked = {"count": 100, "ackmode": "ack_requeue_false", "encoding": "auto"}
        found = self.node.api("POST", f"/queues/{self.vhost}/{names.REJECTED}/get", asked)
        return [message["properties"]["headers"]["twinlock-reason"] for message in found]


@pytest.fixture
async def outside(rabbit: "RabbitNode", vhost: "Vhost", store: Store) -> AsyncIterator[Outside]:
    await _declare(vhost.url)
    working = rabbit.user(vhost, DEP_ASSIGNER, "^$", ".*", r"^twinlock\.dep_assigner\..*$")
    url = rabbit.user(
        vhost, STRANGER, r"^stranger\.", r"^(twinlock\.requests|stranger\..*)$", r"^(twinlock\.answers|stranger\..*)$"
    )
    confined = {"exchange": names.ANSWERS_EXCHANGE, "write": "^$", "read": r"^answer\.stranger\..*$"}
    rabbit.api("PUT", f"/topic-permissions/{vhost.name}/{STRANGER}", confined)
    worker = Store(store.engine, SystemClock(), store.source, DEP_ASSIGNER)
    async with running(worker, working), await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        answers = await channel.declare_queue("stranger.answers", durable=True)
        await answers.bind(names.ANSWERS_EXCHANGE, "answer.stranger.*")
        yield Outside(channel, answers, worker, rabbit, vhost.name)
    rabbit.api("DELETE", f"/users/{STRANGER}")


async def _declare(url: str) -> None:
    link = Link(url, "declares")
    try:
        await declare(link, fleet({DEP_ASSIGNER: [RefreshRequested.type, MoveRequested.type]}))
    finally:
        await link.close()


@asynccontextmanager
async def running(store: Store, url: str) -> AsyncIterator[None]:
    transport = AmqpTransport(url, DEP_ASSIGNER, store.source, store.clock)
    runtime = ConsumerRuntime(store, transport, [Refresh()], store.clock, Ladder())
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(runtime.run())
            relaying = group.create_task(Relay(store, transport, store.clock).run())
            yield
            await runtime.drain(10.0)
            relaying.cancel()
    finally:
        await transport.close()


def request(event_type: str = RefreshRequested.type, request_id: str = "r-1", **data: Any) -> bytes:
    """Return a request in structured mode."""
    envelope = {"specversion": "1.0", "id": request_id, "source": "urn:stranger", "type": event_type}
    return json.dumps({**envelope, "time": "2026-01-01T00:00:00Z", "data": data or {"policy": "p"}}).encode()


RUBBISH = {
    "malformed": (b"{", KEY, "malformed: "),
    "too large": (b" " * (MAX_MESSAGE_BYTES + 1), KEY, "too-large: "),
    "unknown type": (request("twinlock.lottery.won.v1"), KEY, "unknown-type: "),
    "unknown version": (request("twinlock.refresh.requested.v9"), KEY, "unknown-version: "),
    "wrong key": (request(MoveRequested.type, mailbox="a@b"), KEY, "no-handler: "),
    "fact": (request(ReencryptionWoken.type, slot=1), KEY, "producer: "),
    "unregistered": (request(), KEY, UNREGISTERED),
}


@pytest.mark.parametrize("kind", RUBBISH)
async def test_refused(outside: Outside, kind: str) -> None:
    """What nobody may handle is answered to the login that sent it, kept among the rejected, and leaves no row."""
    body, key, reason = RUBBISH[kind]
    await outside.publish(body, key)
    answered_to, event = await outside.told()

    assert "answer.stranger.refused" == answered_to
    assert event["data"]["detail"].startswith(reason)
    assert [event["data"]["detail"]] == outside.kept()
    assert 0 == await outside.rows()


async def test_fact(outside: Outside) -> None:
    """A fact from outside moves nobody, also under a request's key and from who is registered (law 13)."""
    await outside.register()
    await outside.publish(request(ReencryptionWoken.type, slot=1))
    _, event = await outside.told()

    assert "producer" == event["data"]["detail"].partition(":")[0]
    assert 0 == await outside.rows()


async def test_nobody_vouches(outside: Outside) -> None:
    """A message without the login that the broker verifies is kept among the rejected and never handled (law 13)."""
    await outside.register()
    await outside.publish(request(), user_id=None)
    await outside.publish(request(request_id="r-2"))
    _, event = await outside.told()

    assert ("r-2", "done") == (event["data"]["request"], event["data"]["outcome"])
    assert ["no-user-id"] == [reason.partition(":")[0] for reason in outside.kept()]


async def test_forged_login(outside: Outside) -> None:
    """The broker refuses another's login, whatever it would open here."""
    with pytest.raises(ChannelClosed, match="user_id"):
        await outside.publish(request(), user_id=DEP_ASSIGNER)


async def test_forged_headers(outside: Outside) -> None:
    """What an outsider writes into our own headers counts for nothing: its login is what the broker says (law 13)."""
    await outside.register()
    await outside.publish(request(), headers={"twinlock-publisher": "operator", "twinlock-attempt": 5})
    _, event = await outside.told()

    assert ("done", "for stranger") == (event["data"]["outcome"], event["data"]["detail"])


async def test_answers_of_others(outside: Outside) -> None:
    """A publisher can't bind a queue of its own to another's answers."""
    with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
        await outside.answers.bind(names.ANSWERS_EXCHANGE, "answer.*.refused")


async def test_told_twice_is_one_event(outside: Outside) -> None:
    """A registered publisher that is refused is told by the record and by the transport: one event, by its id."""
    async with outside.store.begin(Cause("test")) as unit:
        await register(unit, Registration(STRANGER, (), False, (RefreshRequested.type,)))
    await outside.publish(request())
    (_, first), (_, second) = await outside.told(), await outside.told()

    assert FORBIDDEN == first["data"]["detail"]
    assert (first["source"], first["id"]) == (second["source"], second["id"])
    assert first["data"] == second["data"]
