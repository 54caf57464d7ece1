"""The embedded transport: the store is the queue, one delivery row a consumer, durable across a kill.

One process at a time takes from it (`events/home_lock.py`); any number may put into it.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from events.dead_letters import UNROUTED, bury, named
from events.taking import Delivery, Taker, Taking
from events.transport import Message
from events.verdict import parked
from schemas.envelope import parse
from schemas.event import MessageRefused
from schemas.registry import EVENTS
from twinlock.keys.ports import Clock
from twinlock.store.once import insert_once
from twinlock.store.tables.bus import deliveries, inbox
from twinlock.store.unit import Cause, Store, Unit

log = logging.getLogger(__name__)

_DISPATCH = Cause("dispatch")  # the relay's own transactions: no event leaves under this name
_CARRIED = ("publisher", "source", "id", "type", "correlation", "body")
_KEY = ("consumer", "publisher", "source", "id")
_CONFLICT = "conflict: an unhandled delivery has the same source and id with another body"


class EmbeddedTransport:
    """Carry messages through the store; `routes` says which consumers take which type of event."""

    def __init__(self, store: Store, clock: Clock, routes: Mapping[str, Sequence[str]]) -> None:
        self.store = store
        self.clock = clock
        self.taker = Taker(clock, self._next)
        self.unrouted = 0
        self._routes = routes

    async def publish(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Write the deliveries in a transaction of their own."""
        async with self.store.begin(_DISPATCH) as unit:
            announce = await self.publish_within(unit, messages)
        announce()
        return messages

    async def publish_within(self, unit: Unit, messages: Sequence[Message]) -> Callable[[], None]:
        """Write one delivery for each consumer that has not handled the message; none takes it: that is all."""
        for message in messages:
            await self._park(unit, message)
        rows = await _unhandled(unit, [row for message in messages for row in self._rows(message)])
        fresh = await _put(unit, rows) if rows else []

        def announce() -> None:
            for delivery in fresh:
                self.taker.offer(delivery)

        return announce

    def deliveries(self, consumer: str, prefetch: int) -> "EmbeddedDeliveries":
        """Yield a consumer's due deliveries."""
        return EmbeddedDeliveries(self, self.taker.take(consumer, prefetch))

    async def drain(self) -> None:
        """Stop yielding; the rows stay."""
        self.taker.stop()

    async def _park(self, unit: Unit, message: Message) -> None:
        """Keep what a newer program on this home wrote for a worker that this one has not: it is no one's rubbish."""
        if message.type not in EVENTS and message.type not in self._routes:
            try:
                parse(message.body)
            except MessageRefused as refused:
                await bury(unit, UNROUTED, message, 0, parked(refused))

    def _rows(self, message: Message) -> list[dict[str, Any]]:
        consumers = self._routes.get(message.type, ())
        if not consumers:
            self.unrouted += 1
            log.debug("no consumer takes %s", message.type)
        row = {name: getattr(message, name) for name in _CARRIED}
        row |= {"attempts": 0, "not_before": self.clock.now()}
        return [row | {"consumer": consumer} for consumer in consumers]

    async def _next(self, consumer: str, skip: Collection[int], limit: int) -> Sequence[Delivery]:
        query = select(deliveries).where(deliveries.c.consumer == consumer, deliveries.c.number.not_in(skip))
        try:
            async with self.store.read() as reader:
                rows = await reader.rows(query.order_by(deliveries.c.not_before, deliveries.c.number).limit(limit))
        except SQLAlchemyError as error:
            log.warning("the deliveries can't be read now: %s", type(error).__name__)
            return []
        return [_delivery(row) for row in rows]


class EmbeddedDeliveries:
    """Iterate over one consumer's deliveries."""

    def __init__(self, transport: EmbeddedTransport, taking: Taking) -> None:
        self._transport = transport
        self._taking = taking

    def __aiter__(self) -> "EmbeddedDeliveries":
        return self

    async def __anext__(self) -> "EmbeddedIncoming":
        return EmbeddedIncoming(self._transport, await anext(self._taking))


class EmbeddedIncoming:
    """Settle one delivery row. Whatever becomes of a settlement, the claim ends: a failed one is delivered again."""

    def __init__(self, transport: EmbeddedTransport, delivery: Delivery) -> None:
        self.message = delivery.message
        self.attempts = delivery.attempts
        self._transport = transport
        self._delivery = delivery
        self._row = deliveries.c.number == delivery.number
        self._cause = Cause(named(delivery.message.correlation), named(delivery.message.id))

    async def ack_within(self, unit: Unit) -> None:
        """Delete the row if the unit commits."""
        await unit.execute(delete(deliveries).where(self._row))

    def release(self) -> None:
        """End the claim."""
        self._transport.taker.release(self._delivery)

    async def ack(self) -> None:
        """Delete the row."""
        try:
            async with self._transport.store.begin(self._cause) as unit:
                await self.ack_within(unit)
        finally:
            self.release()

    async def retry(self, delay: float, reason: str) -> None:
        """Count the attempt and put the row off."""
        not_before = self._transport.clock.now() + timedelta(seconds=delay)
        change = update(deliveries).where(self._row).values(attempts=self.attempts + 1, not_before=not_before)
        try:
            async with self._transport.store.begin(self._cause) as unit:
                await unit.execute(change)
        finally:
            self.release()
            self._transport.taker.wake(self._delivery.consumer)

    async def dead_letter(self, reason: str) -> None:
        """Move the row to the dead letters and tell, in one transaction."""
        try:
            async with self._transport.store.begin(self._cause) as unit:
                await self.ack_within(unit)
                await bury(unit, self._delivery.consumer, self.message, self.attempts + 1, reason)
        finally:
            self.release()

    async def reject(self, reason: str) -> None:
        """Move the row to the dead letters: outsiders' requests are refused before they get here."""
        await self.dead_letter(reason)


async def _unhandled(unit: Unit, rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Leave out what its consumer has handled, so that no repetition is ever prepared; a forgery goes on to be told."""
    columns = [inbox.c[name] for name in _KEY]
    same = [column.in_({row[column.name] for row in rows}) for column in columns]
    query = select(*columns, inbox.c.digest).where(*same)
    handled = {tuple(row) for row in await unit.rows(query)} if rows else set()
    return [row for row in rows if (*_key(row), hashlib.sha256(row["body"]).digest()) not in handled]


async def _put(unit: Unit, rows: Sequence[dict[str, Any]]) -> Sequence[Delivery]:
    written = await unit.execute(insert_once(unit, deliveries).returning(*deliveries.c), rows)
    fresh = [_delivery(row) for row in written.all()]
    if len(fresh) < len(rows):
        for row in rows:
            await _bury_conflict(unit, row)
    return fresh


async def _bury_conflict(unit: Unit, row: dict[str, Any]) -> None:
    # The inbox would tell after the first delivery is handled; dropped here, the second would vanish unseen.
    same = [deliveries.c[name] == value for name, value in zip(_KEY, _key(row), strict=True)]
    if await unit.scalar(select(deliveries.c.body).where(*same)) != row["body"]:
        await bury(unit, row["consumer"], Message(**{name: row[name] for name in _CARRIED}), 0, _CONFLICT)


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEY)


def _delivery(row: Row[Any]) -> Delivery:
    message = Message(**{name: row._mapping[name] for name in _CARRIED})
    return Delivery(row.number, row.consumer, message, row.attempts, row.not_before)
