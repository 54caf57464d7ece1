"""Calls to the custodian over RabbitMQ, both sides. The broker carries them and is trusted with nothing (law 9).

A caller has one connection: requests go out on it with confirms, replies come in on an exclusive queue that dies with
it. So whatever is lost with a connection is known to be lost, and every call that waited for it ends at once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from aio_pika import DeliveryMode
from aio_pika import Message as Outgoing
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from events.amqp import names
from events.amqp.connection import Link
from events.amqp.consuming import ConsumingSettings, Session, Taking
from events.amqp.publishing import Outlet, Parcel
from events.amqp.trouble import BrokerGone, bounded
from twinlock.custody.errors import CustodianSilent
from twinlock.custody.remote.ports import Lane
from twinlock.store.unit import new_id

log = logging.getLogger(__name__)

T = TypeVar("T")
_CONTENT_TYPE = "application/octet-stream"
# A flood of forged replies must not fill the memory of the broker or of the caller.
_REPLY_QUEUE: dict[str, Any] = {"x-queue-type": "classic", "x-max-length": 1000, "x-overflow": "drop-head"}


class _Waiting:
    """Hold one call: what its replies are judged by, and what became of it."""

    def __init__(self, judge: Callable[[bytes], Any]) -> None:
        self._judge = judge
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def take(self, body: bytes) -> None:
        """Judge a reply, unless one counted already."""
        if not self.result.done() and (judged := self._judge(body)) is not None:
            self.result.set_result(judged)

    def lose(self) -> None:
        """End the call: no reply can reach it any more."""
        if not self.result.done():
            self.result.set_exception(BrokerGone("the connection to the broker is lost"))
            self.result.exception()  # whoever waits is told; who was cancelled meanwhile need not be


class _Replies:
    """Hold the reply queue of one connection, and the calls that wait for it."""

    def __init__(self, channel: AbstractChannel) -> None:
        self.address = f"twinlock.reply.{new_id()}"
        self.over = False
        self._channel = channel
        self._waiting: dict[str, _Waiting] = {}

    async def begin(self, seconds: float) -> None:
        """Make the queue and listen; raise `BrokerGone`."""
        self._channel.close_callbacks.add(self.end)
        underlay = await bounded(self._channel.get_underlay_channel(), seconds)
        underlay.on_consumer_cancel_callbacks.add(self.end)
        declared = self._channel.declare_queue(self.address, exclusive=True, auto_delete=True, arguments=_REPLY_QUEUE)
        queue = await bounded(declared, seconds)
        await bounded(queue.bind(names.REPLIES, self.address), seconds)
        await bounded(queue.consume(self._arrived, no_ack=True), seconds)

    def expect(self, correlation: str, judge: Callable[[bytes], Any]) -> _Waiting:
        """Wait for replies to one call."""
        waiting = self._waiting[correlation] = _Waiting(judge)
        if self.over:
            waiting.lose()
        return waiting

    def forget(self, correlation: str) -> None:
        """Drop whatever else comes for a call."""
        self._waiting.pop(correlation, None)

    def end(self, *_: object) -> None:
        """End every call that waits."""
        self.over = True
        for waiting in self._waiting.values():
            waiting.lose()

    async def _arrived(self, delivery: AbstractIncomingMessage) -> None:
        waiting = self._waiting.get(delivery.correlation_id or "")
        if waiting is not None:
            waiting.take(delivery.body)

    def __len__(self) -> int:
        return len(self._waiting)


class AmqpRequester:
    """Be the `Requester` of one process, on a connection that nothing else uses."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._outlet = Outlet(link)
        self._opening = asyncio.Lock()
        self._replies: _Replies | None = None

    @property
    def pending(self) -> int:
        """Return how many calls wait."""
        return 0 if self._replies is None else len(self._replies)

    async def ask(self, request: bytes, lane: Lane, deadline: float, judge: Callable[[bytes], T | None]) -> T:
        """Send a request and wait for the first reply that counts."""
        until = asyncio.get_running_loop().time() + deadline
        try:
            async with asyncio.timeout_at(until):
                return await self._ask(request, lane, until, judge)
        except TimeoutError:
            raise CustodianSilent from None
        except BrokerGone as gone:
            raise CustodianSilent(f"the custodian can't be reached: {gone.detail}", gone.hint) from None

    async def close(self) -> None:
        """Close the connection, and end the calls that still wait."""
        if self._replies is not None:
            self._replies.end()
        await self._link.close()

    async def _ask(self, request: bytes, lane: Lane, until: float, judge: Callable[[bytes], T | None]) -> T:
        replies = await self._listening()
        correlation = new_id()
        waiting = replies.expect(correlation, judge)
        try:
            left = until - asyncio.get_running_loop().time()
            await self._outlet.send(_parcel(request, lane, correlation, replies.address, left, self._link.login))
            judged: T = await waiting.result
            return judged
        finally:
            replies.forget(correlation)

    async def _listening(self) -> _Replies:
        async with self._opening:
            if self._replies is None or self._replies.over or self._link.gone.is_set():
                if self._replies is not None:
                    self._replies.end()
                self._replies = await self._listen()
            return self._replies

    async def _listen(self) -> _Replies:
        replies = _Replies(await self._link.channel(confirms=False))
        try:
            await replies.begin(self._link.settings.call)
        except BrokerGone:
            await self._link.drop()
            raise
        return replies


def _parcel(request: bytes, lane: Lane, correlation: str, address: str, seconds: float, login: str) -> Parcel:
    message = Outgoing(
        request,
        content_type=_CONTENT_TYPE,
        delivery_mode=DeliveryMode.NOT_PERSISTENT,  # its caller does not outlive the broker's restart either
        message_id=correlation,
        correlation_id=correlation,
        reply_to=address,
        user_id=login,  # the broker refuses any other than ours
        expiration=max(0.001, seconds),
    )
    return Parcel(names.RPC, names.lane_key(lane.value), message)


class Replying:
    """Send replies: at most once, for whoever does not get one asks again."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._opening = asyncio.Lock()
        self._channel: AbstractChannel | None = None

    async def send(self, address: str, correlation: str, body: bytes) -> None:
        """Send a reply through the exchange of replies, where nothing but reply queues is; raise `BrokerGone`."""
        channel = await self._open()
        message = Outgoing(body, content_type=_CONTENT_TYPE, correlation_id=correlation, message_id=new_id())
        try:
            exchange = await channel.get_exchange(names.REPLIES, ensure=False)
            await bounded(exchange.publish(message, address, mandatory=False), self._link.settings.call)
        except BrokerGone:
            await self._link.drop()
            raise

    async def _open(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed or self._link.gone.is_set():
                self._channel = await self._link.channel(confirms=False)
            return self._channel


class AmqpCall:
    """Hold one request as the broker delivered it."""

    def __init__(self, session: Session, delivery: AbstractIncomingMessage, replying: Replying) -> None:
        self.body = delivery.body
        self.sender = delivery.user_id
        self._session = session
        self._delivery = delivery
        self._replying = replying

    async def settle(self, reply: bytes | None) -> None:
        """Reply where there is something to say and somebody to hear it, and let the broker forget the request."""
        try:
            if reply is not None and self._delivery.reply_to:
                await self._replying.send(self._delivery.reply_to, self._delivery.correlation_id or "", reply)
            await self._session.ack(self._delivery)
        except BrokerGone as gone:
            log.warning("a call can't be settled: %s", gone.detail)
        finally:
            await self._session.settled()


class AmqpLane:
    """Hand out the requests of one lane, `places` at a time; it only ends by `stop`."""

    def __init__(
        self, consuming: Link, replying: Replying, lane: Lane, places: int, settings: ConsumingSettings | None = None
    ) -> None:
        self._replying = replying
        self._taking = Taking(consuming, names.lane_queue(lane.value), places, settings or ConsumingSettings())

    @property
    def healthy(self) -> bool:
        """Tell whether requests of this lane reach us."""
        return self._taking.consuming

    def __aiter__(self) -> AsyncIterator[AmqpCall]:
        return self

    async def __anext__(self) -> AmqpCall:
        found = await self._taking.next()
        if found is None:
            raise StopAsyncIteration
        return AmqpCall(*found, self._replying)

    async def stop(self) -> None:
        """Take nothing more."""
        await self._taking.stop()
