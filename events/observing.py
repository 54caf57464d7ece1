"""What the event flow tells whoever measures it; nothing depends on being heard."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from events.transport import Message


class Observer(Protocol):
    """Hear what happens to events. Every method returns at once and never raises."""

    def handling(self, consumer: str, message: Message) -> AbstractContextManager[None]:
        """Be entered around the handling of a delivery."""
        ...

    def handled(self, consumer: str, event_type: str, how: str, seconds: float) -> None:
        """Hear that a delivery was settled: `done`, or how it was not."""
        ...

    def published(self, taken: Sequence[Message], left: int) -> None:
        """Hear which events of the outbox the transport took, and how many it left there."""
        ...


class Unobserved:
    """Be an `Observer` who does not listen."""

    def handling(self, consumer: str, message: Message) -> AbstractContextManager[None]:
        """Stay out of it."""
        return nullcontext()

    def handled(self, consumer: str, event_type: str, how: str, seconds: float) -> None:
        """Forget it."""

    def published(self, taken: Sequence[Message], left: int) -> None:
        """Forget it."""
