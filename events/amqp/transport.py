"""The transport of a fleet: RabbitMQ behind the same port as the embedded one.

One connection publishes and one consumes: a broker that blocks publishers must not stop acknowledgements.
"""

import asyncio
import hashlib
import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from events.amqp import names, wire
from events.amqp.connection import Link, LinkSettings
from events.amqp.consuming import ConsumingSettings, Session, Taking
from events.amqp.publishing import Outlet, OutletSettings, Parcel
from events.amqp.refusal import refusal
from events.amqp.topology import TIERS
from events.amqp.trouble import BrokerGone, NotTaken, bounded
from events.dead_letters import REASON_LIMIT
from events.transport import Message
from events.verdict import parked
from events.verdict import told as told_of
from schemas.event import MessageRefused
from schemas.names import OPERATOR
from schemas.routing import destination
from twinlock.crashpoints import CrashPoint, reach
from twinlock.keys.ports import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AmqpSettings:
    """Hold what can be set about the transport; `tiers` are those of the topology."""

    tiers: tuple[float, ...] = TIERS
    link: LinkSettings = field(default_factory=LinkSettings)
    outlet: OutletSettings = field(default_factory=OutletSettings)
    consuming: ConsumingSettings = field(default_factory=ConsumingSettings)


class AmqpTransport:
    """Carry messages through RabbitMQ. A consumer's name is its worker's, and both links' login is the worker's too.

    `source` names the installation in answers to what is refused before anybody handles it.
    """

    def __init__(self, url: str, name: str, source: str, clock: Clock, settings: AmqpSettings | None = None) -> None:
        self.settings = settings or AmqpSettings()
        self.publishing = Link(url, f"{name} publishes", self.settings.link)
        self.consuming = Link(url, f"{name} consumes", self.settings.link)
        self.login = self.publishing.login
        self.outlet = Outlet(self.publishing, self.settings.outlet)
        self.source = source
        self.clock = clock
        self.trouble: BrokerGone | None = None  # why the last publishing took not all that it was given
        self._takings: list[Taking] = []
        self._draining = False

    @property
    def healthy(self) -> bool:
        """Tell whether everything that should be consumed is."""
        return all(taking.consuming for taking in self._takings)

    async def reach(self) -> None:
        """See that there is a connection to publish through, or open one; raise a `BrokerGone`."""
        if self.publishing.gone.is_set():
            channel = await self.publishing.channel(confirms=False)
            await bounded(channel.close(), self.settings.link.call)

    async def waiting(self, consumer: str) -> tuple[int, int]:
        """Return how many messages wait in a consumer's queue, and how many processes take from it."""
        channel = await self.consuming.channel(confirms=False)
        try:
            queue = channel.declare_queue(names.inbound(consumer), passive=True)
            found = (await bounded(queue, self.settings.link.call)).declaration_result
        finally:
            await bounded(channel.close(), self.settings.link.call)
        return found.message_count or 0, found.consumer_count or 0

    async def publish(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Publish in parallel and return what was confirmed and has a queue; another's message is never taken."""
        own = [message for message in messages if message.publisher == self.login]
        if len(own) < len(messages):
            log.error(
                "%d messages are another login's to publish, not that of %s", len(messages) - len(own), self.login
            )
        parcels = [
            Parcel(*destination(message.type, message.body), wire.outgoing(message, self.login)) for message in own
        ]
        outcomes = [
            await self._past_subscribers(message, parcel) if _may_be_a_subscribers(parcel, outcome) else outcome
            for message, parcel, outcome in zip(own, parcels, await self.outlet.send_all(parcels), strict=True)
        ]
        self.trouble = next(filter(None, outcomes), None)
        return [message for message, trouble in zip(own, outcomes, strict=True) if trouble is None]

    async def _past_subscribers(self, message: Message, parcel: Parcel) -> BrokerGone | None:
        """Take an alert as published that a subscriber's full queue refused, once our own queue has it.

        Which queue refused it the broker does not say. Sent to all again, it would come twice to every other
        subscriber, for as long as one is full; the row in `alerts` is the truth for whoever has lost it.
        """
        copy = Parcel(names.retry_exchange(self.login), names.NOW, wire.outgoing(message, self.login))
        (trouble,) = await self.outlet.send_all([copy])
        if trouble is None:
            log.warning("a subscriber's queue is full and refused the alert %s: it is lost there", parcel.key)
        return trouble

    async def send_all(self, parcels: Sequence[Parcel]) -> None:
        """Publish what takes a delivery's place; raise a `BrokerGone` unless all of it was taken."""
        for parcel in parcels:
            await self.outlet.send(parcel)

    def deliveries(self, consumer: str, prefetch: int) -> "AmqpDeliveries":
        """Yield what a worker's queue delivers, through restarts and cuts, until `drain`."""
        taking = self.take(names.inbound(consumer), prefetch)
        return AmqpDeliveries(self, consumer, taking)

    def take(self, queue: str, prefetch: int) -> Taking:
        """Take from a queue until `drain`."""
        taking = Taking(self.consuming, queue, prefetch, self.settings.consuming)
        self._takings.append(taking)
        if self._draining:
            taking.stop_at_once()
        return taking

    async def end_abandoned(self) -> None:
        """End the consumers of iterators that are no more."""
        for taking in [taking for taking in self._takings if taking.stopped and not self._draining]:
            self._takings.remove(taking)
            await taking.stop()

    async def drain(self) -> None:
        """Cancel the consumers; each channel closes when the last delivery that somebody works on is settled."""
        self._draining = True
        async with asyncio.TaskGroup() as group:
            for taking in self._takings:
                group.create_task(taking.stop())

    async def close(self) -> None:
        """Close both connections: what is unsettled goes back."""
        await self.drain()
        await self.consuming.close()
        await self.publishing.close()


class AmqpDeliveries:
    """Iterate over one worker's deliveries; what nobody could handle is refused here."""

    def __init__(self, transport: AmqpTransport, consumer: str, taking: Taking) -> None:
        self._transport = transport
        self._consumer = consumer
        self._taking = taking
        # An iterator that nobody holds any more must not go on taking deliveries away from the others.
        weakref.finalize(self, taking.stop_at_once)

    def __aiter__(self) -> "AmqpDeliveries":
        return self

    async def __anext__(self) -> "AmqpIncoming":
        await self._transport.end_abandoned()
        while (taken := await self._taking.next()) is not None:
            session, delivery = taken
            try:
                return AmqpIncoming(self._transport, self._consumer, session, delivery)
            except MessageRefused as refused:
                await self._refuse(session, delivery, refused)
        raise StopAsyncIteration

    async def _refuse(self, session: Session, delivery: AbstractIncomingMessage, refused: MessageRefused) -> None:
        log.warning("refused what came to %s: %s", self._consumer, told_of(refused))
        parcels = self._instead(delivery, refused)
        try:
            await session.persist(lambda: self._transport.send_all(parcels))
            reach(CrashPoint.AFTER_COPY)
            await session.ack(delivery)
        except BrokerGone as gone:
            log.info("a refusal can't be carried out now: %s", gone.detail)  # the delivery comes again
        finally:
            await session.settled()

    def _instead(self, delivery: AbstractIncomingMessage, refused: MessageRefused) -> list[Parcel]:
        believed = delivery.exchange == names.retry_exchange(self._consumer)
        login = wire.publisher(delivery, believed=believed)
        what = replace(wire.claimed(delivery), publisher=login or wire.UNKNOWN)
        if delivery.exchange == names.REQUESTS_EXCHANGE and not (refused.later and login == OPERATOR):
            return refusal(delivery.body, what, login, told_of(refused), self._transport)
        # Outsiders can't write elsewhere: rubbish from inside is a fault of ours, which somebody has to look into.
        history = wire.history(delivery) if believed else wire.NO_HISTORY
        return [dead_letter(self._consumer, wire.Arrived(what, *history), parked(refused), self._transport.login)]


class AmqpIncoming:
    """Settle one delivery: what takes its place is confirmed first, so that a crash in between only repeats it."""

    def __init__(
        self, transport: AmqpTransport, consumer: str, session: Session, delivery: AbstractIncomingMessage
    ) -> None:
        believed = delivery.exchange == names.retry_exchange(consumer)
        self._came = wire.arrived(delivery, believed=believed)
        self.message = self._came.message
        self.attempts = self._came.attempts
        self._transport = transport
        self._consumer = consumer
        self._session = session
        self._delivery = delivery

    async def ack(self) -> None:
        """Forget the delivery."""
        await self._settle()

    async def retry(self, delay: float, reason: str) -> None:
        """Put a copy into the tier of the ladder that is not shorter than the delay."""
        tier = names.tier_name(names.tier_for(self._transport.settings.tiers, delay))
        headers = told(self._came, reason)
        copy = wire.outgoing(self.message, self._transport.login, headers)
        await self._settle(Parcel(names.retry_exchange(self._consumer), tier, copy))

    async def dead_letter(self, reason: str) -> None:
        """Put a copy to the worker's dead letters, from where the collector takes it."""
        await self._settle(dead_letter(self._consumer, self._came, reason, self._transport.login))

    async def reject(self, reason: str) -> None:
        """Put a copy to the rejected ones, and answer."""
        message = self.message
        await self._settle(*refusal(message.body, message, message.publisher, reason, self._transport))

    async def _settle(self, *parcels: Parcel) -> None:
        try:
            if parcels:
                await self._session.persist(lambda: self._transport.send_all(parcels))
                reach(CrashPoint.AFTER_COPY)
            await self._session.ack(self._delivery)
        finally:
            await self._session.settled()


def _may_be_a_subscribers(parcel: Parcel, trouble: BrokerGone | None) -> bool:
    return parcel.exchange == names.ALERTS_EXCHANGE and isinstance(trouble, NotTaken)


def dead_letter(worker: str, came: wire.Arrived, reason: str, login: str) -> Parcel:
    """Return the copy that takes the place of a delivery that is given up."""
    headers = told(came, reason) | {wire.LETTER: _letter_name(worker, came)}
    return Parcel(names.letter_exchange(worker), names.DLX_KEY, wire.outgoing(came.message, login, headers))


def _letter_name(worker: str, came: wire.Arrived) -> str:
    # The same for every copy of a message that was delivered twice; another one once its letter was put back.
    message = came.message
    told = "\n".join((worker, message.publisher, message.source, message.id, came.round)).encode(errors="replace")
    return f"letter-{hashlib.sha256(told + message.body).hexdigest()}"


def told(came: wire.Arrived, reason: str) -> dict[str, Any]:
    """Return the headers that tell of a failed attempt."""
    return {
        wire.PUBLISHER: came.message.publisher,
        wire.ATTEMPT: came.attempts + 1,
        wire.REASON: reason[:REASON_LIMIT],
        wire.ROUND: came.round,
    }
