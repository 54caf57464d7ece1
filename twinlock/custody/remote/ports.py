"""What the bus has to offer to whoever asks a custodian in another process, and to the custodian itself."""

from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")


class Lane(StrEnum):
    """Keep people's calls apart from background work, all the way: neither ever waits behind the other."""

    USER = "user"
    BACKGROUND = "background"


class Requester(Protocol):
    """Carry one request to a custodian, and bring what comes back."""

    async def ask(self, request: bytes, lane: Lane, deadline: float, judge: Callable[[bytes], T | None]) -> T:
        """Return what `judge` makes of the first reply for which it makes anything.

        Who carries a reply is not trusted: one that `judge` makes nothing of is dropped, and the waiting goes on. Raise
        `CustodianSilent` when `deadline` seconds have passed, or at once when the request can't arrive any more. No
        call is left behind.
        """
        ...


class IncomingCall(Protocol):
    """Hold one request as it arrived."""

    @property
    def body(self) -> bytes:
        """Return its bytes, whoever wrote them."""
        ...

    @property
    def sender(self) -> str | None:
        """Return the login that the carrier vouches for, or none: it is a second check, never the first."""
        ...

    async def settle(self, reply: bytes | None) -> None:
        """Send the reply, if there is one, and be done with the request; a reply that can't be sent is lost."""
        ...


class Calls(Protocol):
    """Hand out the requests of one lane until stopped; those that are not settled bound how many come."""

    def __aiter__(self) -> AsyncIterator[IncomingCall]:
        """Begin to take requests."""
        ...

    async def stop(self) -> None:
        """Hand out no more; what was handed out may still be settled."""
        ...
