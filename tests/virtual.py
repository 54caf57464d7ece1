"""An event loop on which waiting takes no time: when nobody can go on, its clock jumps to the next timer.

Whatever is measured on it is exact and the same in every run. Threads and sockets are unknown to it: what waits for
them waits for ever, and that is told.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
_START = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Be an event loop with a clock of its own."""

    def __init__(self) -> None:
        self.seconds = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Return the seconds that were jumped so far."""
        return self.seconds


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("everything waits, and no timer is set")
        self._loop.seconds += timeout
        return ready


class VirtualClock:
    """Tell the time of the virtual loop that runs."""

    def now(self) -> datetime:
        """Return the wall clock, in UTC."""
        return _START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait on the loop."""
        await asyncio.sleep(seconds)


def virtually(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a virtual loop of its own, and fail if it leaves a task or a timer behind."""

    async def _alone() -> T:
        answer = await work()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left running: {left}"
        return answer

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_alone())
