"""The one shape of a handler: two halves, with no transaction open in the first.

`prepare` reads, calls the custodian and writes objects; `commit` is one short transaction that re-checks what `prepare`
read (raising `StaleRead` starts over), changes state and queues events. The runtime adds the inbox row to that same
transaction and acknowledges after it (law 11).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from schemas.envelope import Envelope
from schemas.event import Event
from twinlock.store.unit import Cause, Unit

EventT = TypeVar("EventT", bound=Event, contravariant=True)
PlanT = TypeVar("PlanT")


@dataclass(frozen=True, slots=True)
class Asked:
    """Name a request, so that its answer finds it, even from a job that ends long after it."""

    source: str
    id: str
    type: str

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> "Asked":
        """Read it from a job's payload."""
        return cls(payload["source"], payload["request"], payload["type"])

    def payload(self) -> dict[str, Any]:
        """Return what a job's payload keeps of it."""
        return {"source": self.source, "request": self.id, "type": self.type}


@dataclass(frozen=True, slots=True)
class Received:
    """Say what came with an event: its envelope and the publisher that the transport vouches for."""

    envelope: Envelope
    publisher: str

    @property
    def asked(self) -> Asked:
        """Name the request that this is."""
        return Asked(self.envelope.source, self.envelope.id, self.envelope.type)

    @property
    def cause(self) -> Cause:
        """Return the cause of whatever this event sets off."""
        return Cause(self.envelope.correlation, self.envelope.id)


class Handler(Protocol[EventT, PlanT]):
    """Handle one type of event for one consumer."""

    @property
    def consumer(self) -> str:
        """Name the worker; it is the inbox's key and the queue's name."""
        ...

    @property
    def handles(self) -> type[Event]:
        """Name the event."""
        ...

    async def prepare(self, event: EventT, received: Received) -> PlanT:
        """Do everything slow, with no transaction open; safe to repeat."""
        ...

    async def commit(self, unit: Unit, plan: PlanT) -> None:
        """Change state in one short transaction, or raise `StaleRead` to start over."""
        ...


class TryLater(Exception):
    """Ask for another delivery: the trouble passes. The ladder says when, unless `delay` (seconds) does."""

    def __init__(self, reason: str, delay: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


class Rejected(Exception):
    """Give an event up for good; `reason` is free of secrets and goes with the dead letter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
