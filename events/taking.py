"""Taking due deliveries from a backlog: at most `prefetch` unsettled, none of them twice at a time in this process.

What is claimed is known to this process alone. Whatever dies with it unsettled is still in the backlog.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from events.transport import Message
from events.waiting import set_or_elapsed
from twinlock.keys.ports import Clock

POLL_SECONDS = 0.2  # the net: another process may have put deliveries into the same backlog


@dataclass(frozen=True, slots=True)
class Delivery:
    """Hold one row of a backlog."""

    number: int
    consumer: str
    message: Message
    attempts: int
    not_before: datetime


# Return a consumer's next deliveries by time, due or not, without those in `skip`, and at most `limit`.
Next = Callable[[str, Collection[int], int], Awaitable[Sequence[Delivery]]]


class Taking:
    """Iterate over the due deliveries of one consumer until the taker stops."""

    def __init__(self, taker: "Taker", consumer: str, prefetch: int) -> None:
        self.consumer = consumer
        self.claimed: set[int] = set()
        self._taker = taker
        self._prefetch = prefetch
        self._ready: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._look_now = True
        self._look_at = 0.0  # on the monotonic clock
        # Settled while a look was under way: what that look says about them may be from before.
        self._outdated: set[int] = set()

    def __aiter__(self) -> "Taking":
        return self

    async def __anext__(self) -> Delivery:
        while not self._taker.stopped:
            if self._ready:
                return self._ready.popleft()
            self._wake.clear()
            await self._pause_or_look()
        raise StopAsyncIteration

    @property
    def full(self) -> bool:
        """Tell whether no more may be taken before one is settled."""
        return len(self.claimed) >= self._prefetch

    def wake(self, look: bool = True) -> None:
        """Say that something changed; with `look`, that it is in the backlog."""
        self._look_now |= look
        self._wake.set()

    def offer(self, delivery: Delivery) -> None:
        """Hand over what was just put into the backlog, which saves the look.

        Not while something older may wait there: it would never have its turn.
        """
        if self._look_now or self.full or delivery.number in self._taker.claimed:
            self.wake()
        else:
            self._claim(delivery)
            self.wake(look=False)

    def release(self, number: int) -> None:
        """Forget a claim: the delivery was settled, or has to come again."""
        self._outdated.add(number)
        self.claimed.discard(number)
        self.wake(look=False)

    async def _pause_or_look(self) -> None:
        pause = self._look_at - self._taker.clock.monotonic()
        if self.full:
            await self._wake.wait()
        elif self._look_now or pause <= 0:
            await self._look()
        else:
            await set_or_elapsed(self._wake, self._taker.clock, pause)

    async def _look(self) -> None:
        self._look_now = False
        self._outdated.clear()
        room = self._prefetch - len(self.claimed)
        found = await self._taker.next(self.consumer, self._taker.claimed, room)
        now = self._taker.clock.now()
        due = [row for row in found if row.not_before <= now]
        for row in due:
            if self.full or row.number in self._taker.claimed or row.number in self._outdated:
                self._look_now = True  # what was passed over, or lies behind it, is still to be seen
            else:
                self._claim(row)
        self._look_now |= len(due) == room
        self._look_at = self._taker.clock.monotonic() + _pause(found[len(due) :], now)

    def _claim(self, delivery: Delivery) -> None:
        self.claimed.add(delivery.number)
        self._ready.append(delivery)


def _pause(later: Sequence[Delivery], now: datetime) -> float:
    return min(POLL_SECONDS, (later[0].not_before - now).total_seconds()) if later else POLL_SECONDS


class Taker:
    """Hand out the takings of one backlog."""

    def __init__(self, clock: Clock, following: Next) -> None:
        self.clock = clock
        self.next = following
        self.stopped = False
        self._takings: list[Taking] = []

    @property
    def claimed(self) -> set[int]:
        """Return the numbers of everything that this process has taken and not settled."""
        return set().union(*(taking.claimed for taking in self._takings))

    def take(self, consumer: str, prefetch: int) -> Taking:
        """Start to take for a consumer."""
        taking = Taking(self, consumer, prefetch)
        self._takings.append(taking)
        return taking

    def release(self, delivery: Delivery) -> None:
        """Forget the claim on a delivery."""
        for taking in self._of(delivery.consumer):
            taking.release(delivery.number)

    def offer(self, delivery: Delivery) -> None:
        """Hand a new delivery to whoever takes for its consumer."""
        for taking in self._of(delivery.consumer):
            taking.offer(delivery)

    def wake(self, consumer: str) -> None:
        """Say that there is something new in the backlog of a consumer."""
        for taking in self._of(consumer):
            taking.wake()

    def stop(self) -> None:
        """End every taking; what is unsettled stays in the backlog."""
        self.stopped = True
        for taking in self._takings:
            taking.wake()

    def _of(self, consumer: str) -> Iterator[Taking]:
        return (taking for taking in self._takings if taking.consumer == consumer)
