"""One time for a whole fleet: the database's, whatever the clocks of its machines say.

Leases and `not_before` are compared by many processes (law 12). A reading of the database's clock lies somewhere within
the round trip that fetched it, so that it is off by half of the trip at most; between readings the machine's monotonic
clock goes on, which drifts by less than 0.5 ms a second and does not jump when somebody sets the wall clock.
"""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from twinlock.keys.ports import Clock
from twinlock.store.postgres import DatabaseUnavailable

REFRESH_SECONDS = 30.0
MOST_UNCERTAIN = 0.5  # seconds; with the drift between two readings: 15 ms more
_READINGS = 3
_GOOD_ENOUGH = 0.01


class TimeUnknown(DatabaseUnavailable):
    """Say that the database answers too slowly for anybody to know what time it is there."""

    def __init__(self) -> None:
        super().__init__("the database answers too slowly to tell the time", hint="see to its load and to the network")


class DatabaseClock:
    """Tell the database's time on top of a machine's clock; until the first reading, the machine's own."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self._read_at = machine.monotonic()
        self._said = machine.now()
        self.uncertainty: float | None = None

    def now(self) -> datetime:
        """Return the database's wall clock, in UTC, to within `uncertainty` and the drift since."""
        return self._said + timedelta(seconds=self._machine.monotonic() - self._read_at)

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return self._machine.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the machine's clock."""
        await self._machine.sleep(seconds)

    async def keep(self, connection: AsyncConnection) -> None:
        """Read the database's clock if the last reading is old; raise `TimeUnknown` if there is no good one."""
        if self.uncertainty is not None and self.monotonic() - self._read_at < REFRESH_SECONDS:
            return
        best = min([await self._read(connection)], key=lambda reading: reading[0])
        for _ in range(_READINGS - 1):
            if best[0] <= _GOOD_ENOUGH:
                break
            best = min(best, await self._read(connection), key=lambda reading: reading[0])
        if best[0] > MOST_UNCERTAIN:
            raise TimeUnknown
        self.uncertainty, self._read_at, self._said = best

    async def _read(self, connection: AsyncConnection) -> tuple[float, float, datetime]:
        """Return by how much a reading may be off, the monotonic moment that it belongs to, and what it said."""
        before = self.monotonic()
        said: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
        after = self.monotonic()
        return (after - before) / 2, (before + after) / 2, said
