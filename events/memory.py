"""The in-memory transport: the same port without a database, for tests and trials.

The broker outlives its transports, as a real one outlives its connections: a new transport on the same broker is
offered whatever an earlier one left unsettled.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count

from events.taking import Delivery, Taker, Taking
from events.transport import Message
from twinlock.keys.ports import Clock


@dataclass(frozen=True, slots=True)
class MemoryLetter:
    """Hold one delivery that was given up or rejected."""

    delivery: Delivery
    reason: str


@dataclass(slots=True)
class MemoryBroker:
    """Hold the queues of every consumer, the dead letters, and what was rejected."""

    clock: Clock
    routes: Mapping[str, Sequence[str]]
    waiting: dict[int, Delivery] = field(default_factory=dict)
    letters: list[MemoryLetter] = field(default_factory=list)
    rejected: list[MemoryLetter] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def put(self, consumer: str, message: Message) -> None:
        """Queue a message for one consumer; a broker does not look whether it was there before."""
        number = next(self._numbers)
        self.waiting[number] = Delivery(number, consumer, message, 0, self.clock.now())

    def retry_letters(self) -> int:
        """Put every dead letter back as a fresh delivery and return how many there were."""
        letters, self.letters = self.letters, []
        for letter in letters:
            self.put(letter.delivery.consumer, letter.delivery.message)
        return len(letters)


class MemoryTransport:
    """Carry messages through a broker in memory."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.taker = Taker(broker.clock, self._next)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Queue each message for the consumers of its type."""
        for message in messages:
            consumers = self.broker.routes.get(message.type, ())
            for consumer in consumers:
                self.broker.put(consumer, message)
                self.taker.wake(consumer)
        return messages

    def deliveries(self, consumer: str, prefetch: int) -> "MemoryDeliveries":
        """Yield a consumer's due deliveries."""
        return MemoryDeliveries(self, self.taker.take(consumer, prefetch))

    async def drain(self) -> None:
        """Stop yielding; the queues stay."""
        self.taker.stop()

    async def _next(self, consumer: str, skip: Collection[int], limit: int) -> Sequence[Delivery]:
        found = (row for row in self.broker.waiting.values() if row.consumer == consumer and row.number not in skip)
        return sorted(found, key=lambda row: (row.not_before, row.number))[:limit]


class MemoryDeliveries:
    """Iterate over one consumer's deliveries."""

    def __init__(self, transport: MemoryTransport, taking: Taking) -> None:
        self._transport = transport
        self._taking = taking

    def __aiter__(self) -> "MemoryDeliveries":
        return self

    async def __anext__(self) -> "MemoryIncoming":
        return MemoryIncoming(self._transport, await anext(self._taking))


class MemoryIncoming:
    """Settle one delivery."""

    def __init__(self, transport: MemoryTransport, delivery: Delivery) -> None:
        self.message = delivery.message
        self.attempts = delivery.attempts
        self._transport = transport
        self._delivery = delivery

    async def ack(self) -> None:
        """Forget the delivery."""
        self._take_out()

    async def retry(self, delay: float, reason: str) -> None:
        """Queue it again with one more attempt, later."""
        self._take_out()
        not_before = self._transport.broker.clock.now() + timedelta(seconds=delay)
        again = replace(self._delivery, attempts=self.attempts + 1, not_before=not_before)
        self._transport.broker.waiting[again.number] = again
        self._transport.taker.wake(again.consumer)

    async def dead_letter(self, reason: str) -> None:
        """Move it to the letters."""
        self._take_out()
        letter = replace(self._delivery, attempts=self.attempts + 1)
        self._transport.broker.letters.append(MemoryLetter(letter, reason))

    async def reject(self, reason: str) -> None:
        """Keep it apart from the letters: nobody puts it back."""
        self._take_out()
        self._transport.broker.rejected.append(MemoryLetter(self._delivery, reason))

    def _take_out(self) -> None:
        self._transport.broker.waiting.pop(self._delivery.number, None)
        self._transport.taker.release(self._delivery)
