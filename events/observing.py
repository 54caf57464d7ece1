"""What the event flow tells whoever measures it; nothing depends on being heard."""

from typing import Protocol


class Observer(Protocol):
    """Hear what happens to events. Every method returns at once and never raises."""

    def handled(self, consumer: str, event_type: str, how: str, seconds: float) -> None:
        """Hear that a delivery was settled: `done`, or how it was not."""
        ...

    def published(self, taken: int, left: int) -> None:
        """Hear how many events of the outbox the transport took, and how many it left there."""
        ...


class Unobserved:
    """Be an `Observer` who does not listen."""

    def handled(self, consumer: str, event_type: str, how: str, seconds: float) -> None:
        """Forget it."""

    def published(self, taken: int, left: int) -> None:
        """Forget it."""
