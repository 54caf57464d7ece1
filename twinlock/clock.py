"""The machine's clocks, and one that only moves when it is told to."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

_START = datetime(2026, 1, 1, tzinfo=UTC)


class SystemClock:
    """Tell the machine's time; `monotonic` goes on while the machine is suspended."""

    def now(self) -> datetime:
        """Return the wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since boot, suspended time included: a key must not outlive its TTL in a sleeping machine."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)


class ManualClock:
    """Stand still until `advance`; both clocks move together and every sleeper whose time has come wakes."""

    def __init__(self, start: datetime = _START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the wall clock, in UTC."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Return the seconds that the clock was advanced by so far."""
        return self._elapsed

    @property
    def sleepers(self) -> int:
        """Return how many tasks wait for this clock."""
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced by that much; no time at all still lets other tasks run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        entry = (self._elapsed + seconds, woken)
        self._sleepers.append(entry)
        try:
            await woken
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)

    def advance(self, seconds: float) -> None:
        """Move on and wake who is due, in the order of their times; they run when the caller next awaits."""
        self._elapsed += seconds
        due = sorted((entry for entry in self._sleepers if entry[0] <= self._elapsed), key=lambda entry: entry[0])
        for entry in due:
            self._sleepers.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)
