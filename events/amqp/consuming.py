"""Consuming: what the broker pushes is handed off at once, and whatever ends a consumer, another one begins.

The library cancels what runs inside its callbacks when a connection dies, so nothing does. Delivery tags die with
their channel: what is unsettled then comes again, and the inbox absorbs it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from events.amqp.acknowledging import Acknowledging
from events.amqp.connection import Link, Pauses
from events.amqp.publishing import missing
from events.amqp.trouble import BrokerGone, BrokerRefused, bounded
from events.waiting import randomly, unless

log = logging.getLogger(__name__)

T = TypeVar("T")
_MISSING = 404
_CANCEL_SECONDS = 5.0
_CRASHES = 3  # a delivery that ended so often without settlement is handled alone


@dataclass(frozen=True, slots=True)
class ConsumingSettings:
    """Hold the consumer's times, in seconds."""

    silence: float = 60.0  # with nothing delivered for so long, the broker is asked whether it still knows us
    settle: float = 5.0
    first_pause: float = 0.2
    longest_pause: float = 5.0


class Session:
    """Hold one consumer on one channel, from its opening to whatever ends it."""

    def __init__(self, link: Link, channel: AbstractChannel, settings: ConsumingSettings) -> None:
        self._link = link
        self._channel = channel
        self._settings = settings
        self._queue: AbstractQueue | None = None
        self._tag = ""
        self.local: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()  # bounded by the prefetch
        self._acknowledge = Acknowledging(settings.settle)
        self.unsettled = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.over = asyncio.Event()
        self.ended = False
        self.stopping = False

    async def begin(self, name: str, prefetch: int) -> None:
        """Consume a queue that exists; raise `BrokerGone`."""
        seconds = self._link.settings.call
        await bounded(self._channel.set_qos(prefetch_count=prefetch), seconds)
        self._queue = await bounded(self._channel.get_queue(name), seconds)
        underlay = await bounded(self._channel.get_underlay_channel(), seconds)
        underlay.on_consumer_cancel_callbacks.add(self.end)
        self._channel.close_callbacks.add(self.end)
        self._tag = await bounded(self._queue.consume(self._arrived), seconds)

    async def _arrived(self, delivery: AbstractIncomingMessage) -> None:
        self._acknowledge.came(delivery)
        self.local.put_nowait(delivery)

    def end(self, *_: object) -> None:
        """Say that nothing more comes: the channel is closed, or the broker cancelled the consumer."""
        self.ended = True
        self.over.set()
        self.local.put_nowait(None)

    def took(self) -> None:
        """Count a delivery that somebody works on now."""
        self.unsettled += 1
        self.idle.clear()

    async def ack(self, delivery: AbstractIncomingMessage) -> None:
        """Acknowledge one delivery; raise `BrokerGone` where that is not sure, and it comes again."""
        try:
            await self._acknowledge(delivery)
        except BrokerGone:
            if not self.ended:
                self.end()
                await self._link.drop()
            raise

    async def persist(self, send: Callable[[], Awaitable[None]]) -> None:
        """Send what takes a delivery's place, again and again: given back unsettled, it would count as a crash.

        Raise `BrokerGone` once the delivery is no longer ours, or the consumer stops: it comes again.
        """
        pauses = Pauses(self._settings.first_pause, self._settings.longest_pause, randomly)
        while True:
            try:
                return await send()
            except BrokerGone as gone:
                if self.over.is_set():
                    raise
                log.warning("a delivery can't be settled now: %s", gone.detail)
            pauses.failures += 1
            await unless(self.over, asyncio.sleep(pauses.seconds()))

    async def settled(self) -> None:
        """Count down, whatever came of it; the last one of a session that stops closes it."""
        self.unsettled -= 1
        if self.unsettled == 0:
            self.idle.set()
            if self.stopping:
                await self.close()

    async def alive(self) -> bool:
        """Ask the broker whether this consumer is still one, and nothing waits that it should have been given."""
        if self._queue is None or self.ended:
            return False
        try:
            found = await bounded(self._queue.declare(), self._link.settings.call)
        except BrokerGone:
            return False
        waiting = bool(found.message_count) and self.unsettled == 0 and self.local.empty()
        return bool(found.consumer_count) and not waiting

    async def stop(self) -> None:
        """Cancel the consumer; what runs may still be settled, what was not begun goes back when the channel closes."""
        self.stopping = True
        self.over.set()
        if self._queue is not None and not self.ended:
            try:
                await bounded(self._queue.cancel(self._tag), _CANCEL_SECONDS)
            except BrokerGone as gone:
                log.info("the consumer can't be cancelled: %s", gone.detail)
        self.end()
        if self.unsettled == 0:
            await self.close()

    async def close(self) -> None:
        """Close the channel: what is unsettled goes back."""
        try:
            await bounded(self._channel.close(), _CANCEL_SECONDS)
        except BrokerGone as gone:
            log.info("the channel can't be closed: %s", gone.detail)


class Taking:
    """Iterate over what one queue delivers; it only ends by `stop`."""

    def __init__(self, link: Link, queue: str, prefetch: int, settings: ConsumingSettings) -> None:
        self._link = link
        self._name = queue
        self._prefetch = prefetch
        self._settings = settings
        self._stopped = asyncio.Event()
        self._session: Session | None = None
        self._alone: Session | None = None
        self._pauses = Pauses(settings.first_pause, settings.longest_pause, randomly)

    @property
    def consuming(self) -> bool:
        """Tell whether a consumer is open."""
        return self._session is not None and not self._session.ended

    @property
    def stopped(self) -> bool:
        """Tell whether nothing more is taken."""
        return self._stopped.is_set()

    async def stop(self) -> None:
        """Take nothing more."""
        self._stopped.set()
        if self._session is not None:
            await self._session.stop()

    def stop_at_once(self) -> None:
        """Take nothing at all."""
        self._stopped.set()

    async def next(self) -> tuple[Session, AbstractIncomingMessage] | None:
        """Return the next delivery with the session that it belongs to; none after `stop`."""
        while not self._stopped.is_set():
            if self._session is None or self._session.ended:
                self._session = await self._opened()
            elif (delivery := await self._delivered(self._session)) is not None:
                return self._session, delivery
        return None

    async def _delivered(self, session: Session) -> AbstractIncomingMessage | None:
        if self._alone is session:
            await self._until_idle(session)
        try:
            async with asyncio.timeout(self._settings.silence):
                delivery = await session.local.get()
        except TimeoutError:
            await self._probe(session)
            return None
        if delivery is None or session.ended:
            return None
        self._alone = session if crashes(delivery) >= _CRASHES else None
        if self._alone:
            log.warning("a delivery has ended %d times without settlement; it is handled alone", crashes(delivery))
            await self._until_idle(session)
        if self._stopped.is_set():
            return None
        session.took()
        return delivery

    async def _until_idle(self, session: Session) -> None:
        await unless(self._stopped, session.idle.wait())

    async def _probe(self, session: Session) -> None:
        if not await session.alive():
            log.warning("nothing was delivered from %s and the broker does not know why; connecting again", self._name)
            session.end()
            await self._link.drop()

    async def _opened(self) -> Session | None:
        if self._session is not None:
            await self._session.close()
        await unless(self._stopped, asyncio.sleep(self._pauses.seconds()))
        self._pauses.failures += 1
        session = await unless(self._stopped, self._begun())
        if session is not None:
            self._pauses.failures = 0
            if self._stopped.is_set():
                await session.stop()
        return session

    async def _begun(self) -> Session | None:
        try:
            channel = await self._link.channel(confirms=False)
            session = Session(self._link, channel, self._settings)
            try:
                await session.begin(self._name, self._prefetch)
            except BrokerRefused as refused:
                raise missing("queue", self._name) if refused.code == _MISSING else refused from None
            except BrokerGone:
                await self._link.drop()
                raise
        except BrokerGone as gone:
            log.warning("%s is not consumed now: %s%s", self._name, gone.detail, f" ({gone.hint})" if gone.hint else "")
            return None
        return session


def crashes(delivery: AbstractIncomingMessage) -> int:
    """Return how often the broker saw this delivery end without settlement; a first delivery's header is a guest's."""
    count = delivery.headers.get("x-delivery-count")
    return count if delivery.redelivered and isinstance(count, int) else 0
