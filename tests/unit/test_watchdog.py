"""The watchdog ends a process that is alive but does not consume, and no other."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from events.watchdog import Stalled, Watchdog
from tests.virtual import VirtualClock, virtually


@dataclass
class Taking:
    """Hold what a consumer says of itself; `looks` is what the queue holds at each look."""

    looks: list[int]
    taken: int = 0
    in_hand: int = 0
    takes: list[int] = field(default_factory=list)

    async def waiting(self) -> tuple[int, int]:
        """Return what waits, and what was taken by then."""
        if not self.looks:
            await asyncio.sleep(1000)
        if self.takes:
            self.taken += self.takes.pop(0)
        if (found := self.looks.pop(0)) < 0:
            raise ConnectionError
        return found, 1


def watched(taking: Taking) -> float | None:
    """Return after how many seconds the process ends, or none where it does not."""

    async def watch() -> float | None:
        clock = VirtualClock()
        with suppress(TimeoutError):
            async with asyncio.timeout(600):
                with suppress(Stalled):
                    await Watchdog(taking, taking.waiting, clock).run()
                return clock.monotonic()
        return None

    return virtually(watch)


def test_stalled() -> None:
    """Messages wait, nothing is in hand and nothing comes: after two minutes the process ends."""
    assert 120 == watched(Taking([5] * 10))


@pytest.mark.parametrize(
    "taking",
    [
        pytest.param(Taking([0] * 10), id="nothing-waits"),
        pytest.param(Taking([5, 5, 5, 0, 5, 5, 5]), id="it-was-a-moment"),
        pytest.param(Taking([5, 5, 5, -1, 5, 5, 5]), id="the-broker-was-away"),
        pytest.param(Taking([5] * 10, takes=[1, 0, 0] * 4), id="it-takes-now-and-then"),
        pytest.param(Taking([5] * 10, in_hand=1), id="it-is-at-work"),
    ],
)
def test_not_stalled(taking: Taking) -> None:
    """Whoever takes, works, or has nothing to take goes on."""
    assert watched(taking) is None
