"""What carries messages: the port that the embedded transport and RabbitMQ both fill.

At least once, in no order. A handler acknowledges after its commit; what is never acknowledged comes again.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from schemas.envelope import Envelope
from schemas.event import Event


@dataclass(frozen=True, slots=True)
class Message:
    """Hold one message as it travels; `publisher` is the sender that the transport itself vouches for.

    `parsed` is what the transport itself has read in this very body, where it had to read it.
    """

    publisher: str
    source: str
    id: str
    type: str
    correlation: str
    body: bytes = field(repr=False)
    parsed: tuple[Envelope, Event] | None = field(default=None, repr=False, compare=False)


class Incoming(Protocol):
    """One delivery of a message to one consumer. Exactly one of the four settling methods is called, once."""

    @property
    def message(self) -> Message:
        """Return the message."""
        ...

    @property
    def attempts(self) -> int:
        """Return how often handling it has failed before; never negative."""
        ...

    async def ack(self) -> None:
        """Forget the delivery: it was handled, and its commit is durable."""
        ...

    async def retry(self, delay: float, reason: str) -> None:
        """Deliver it again after `delay` seconds, with one more attempt on its count."""
        ...

    async def dead_letter(self, reason: str) -> None:
        """Give it up: it goes to the dead-letter table with a reason that is free of secrets."""
        ...

    async def reject(self, reason: str) -> None:
        """Refuse what came from outside: keep it where it can halt nobody, and tell its publisher the reason.

        Where requests are refused before they are taken, nothing of the kind arrives, and it is a dead letter.
        """
        ...


class Transport(Protocol):
    """Publish messages and deliver them to consumers."""

    async def publish(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Hand messages over and return those that are safely taken; publishing one twice does no harm."""
        ...

    def deliveries(self, consumer: str, prefetch: int) -> AsyncIterator[Incoming]:
        """Yield deliveries for a consumer, at most `prefetch` of them unsettled at a time; ends on `drain`."""
        ...

    async def drain(self) -> None:
        """Stop yielding; what is unsettled stays with the transport and is delivered again later."""
        ...
