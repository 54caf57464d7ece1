"""A database on the network may be within reach of copies of one home, which no lock file can tell of each other.

Where there is a broker, any number may work. Here the lock is the database's own: it goes with its connection.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from events.home_lock import POLL_SECONDS
from twinlock.errors import TwinlockError
from twinlock.keys.ports import Clock
from twinlock.store.unit import Store

_LOCK = 0x776F726B657273  # "workers" in ASCII: PostgreSQL's advisory locks have numbers, not names
_PATIENCE = 10.0  # seconds: PostgreSQL may take a moment to see that the last holder died


class WorkedElsewhere(TwinlockError):
    """Refuse to run workers beside those of a copy of this home."""

    def __init__(self) -> None:
        super().__init__(
            "the workers of a copy of this home run on the same database",
            hint="stop them: without a broker only one home may work on a database",
        )


@asynccontextmanager
async def sole_worker(store: Store) -> AsyncIterator[None]:
    """Be the one who runs the workers on this database for as long as the block lasts; raise `WorkedElsewhere`."""
    if store.engine.dialect.name != "postgresql":
        yield  # a file: the lock of its home is enough
        return
    async with store.engine.connect() as plain:
        # Outside of any transaction, or PostgreSQL would end it for being idle.
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        await _acquire(connection, store.clock)
        try:
            yield
        finally:
            await connection.execute(select(func.pg_advisory_unlock(_LOCK)))


async def _acquire(connection: AsyncConnection, clock: Clock) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            while not await connection.scalar(select(func.pg_try_advisory_lock(_LOCK))):
                await clock.sleep(POLL_SECONDS)
    except TimeoutError:
        raise WorkedElsewhere from None
