"""Find a process that is alive but does not consume: messages wait for it, it has nothing in hand, and takes none.

No check of health sees that: the connection is there, and so is the consumer. The process ends, and is started again.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from twinlock.keys.ports import Clock

log = logging.getLogger(__name__)

Waiting = Callable[[], Awaitable[tuple[int, int]]]  # messages and consumers of the queue


class Taking(Protocol):
    """Be a consumer runtime."""

    @property
    def taken(self) -> int:
        """Return how many deliveries were taken so far."""
        ...

    @property
    def in_hand(self) -> int:
        """Return how many are not settled yet."""
        ...


class Stalled(RuntimeError):
    """Say that messages wait and are not taken."""

    def __init__(self, messages: int) -> None:
        super().__init__(f"{messages} messages wait in the queue, and none comes to this process")


class Watchdog:
    """Look every `seconds`; what looks stalled that many `times` in a row is."""

    def __init__(
        self, taking: Taking, waiting: Waiting, clock: Clock, *, seconds: float = 30.0, times: int = 4
    ) -> None:
        self._taking = taking
        self._waiting = waiting
        self._clock = clock
        self._seconds = seconds
        self._times = times

    async def run(self) -> None:
        """Look for ever, until cancelled; raise `Stalled`."""
        stalls = 0
        while True:
            before = self._taking.taken
            await self._clock.sleep(self._seconds)
            messages = await self._messages()
            idle = self._taking.taken == before and not self._taking.in_hand
            stalls = stalls + 1 if messages and idle else 0
            if stalls >= self._times:
                raise Stalled(messages)

    async def _messages(self) -> int:
        try:
            return (await self._waiting())[0]
        except Exception as error:  # noqa: BLE001  # a broker that is away is told elsewhere, and is no stall
            log.debug("the queue can't be looked at: %s", type(error).__name__)
            return 0
