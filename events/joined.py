"""Optional abilities of a transport that keeps its queue in the store itself: taking and settling join a unit of work.

They save transactions and close the gaps between dispatch and mark, and between commit and acknowledgement. A broker
has neither.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from events.transport import Message
from twinlock.store.unit import Unit


@runtime_checkable
class JoinedTransport(Protocol):
    """Take messages within the transaction that marks them as taken."""

    async def publish_within(self, unit: Unit, messages: Sequence[Message]) -> Callable[[], None]:
        """Take all messages if the unit commits; what is returned has to be called after its commit."""
        ...


@runtime_checkable
class JoinedIncoming(Protocol):
    """Acknowledge a delivery in the very transaction that handles it; one that was handled is never delivered."""

    async def ack_within(self, unit: Unit) -> None:
        """Forget the delivery if the unit commits; `release` has to follow its commit, in place of `ack`."""
        ...

    def release(self) -> None:
        """Say that the delivery is settled."""
        ...
