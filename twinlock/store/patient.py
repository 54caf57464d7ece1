"""SQLite connections that finish what they began, also for a caller that is cancelled.

A cancelled await does not stop the statement in the driver's thread. Left alone, a BEGIN or a COMMIT would run on a
connection that everybody has given up, and hold the database's only write lock for good.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any

import aiosqlite


class PatientConnection(aiosqlite.Connection):
    """Let a cancellation pass only after the statement under way has ended, and close with nothing left open."""

    async def close(self) -> None:
        """Roll back, then close: SQLite keeps a closed connection, and its lock, while a cursor of it still lives.

        The cursor of a cancelled statement lives as long as the traceback that shows it.
        """
        if self._running and self._connection is not None and self.in_transaction:
            await self.rollback()
        await super().close()

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = asyncio.ensure_future(super()._execute(fn, *args, **kwargs))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            while not call.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({call})
            if not call.cancelled():
                call.exception()  # seen: the cancellation is what the caller hears of
            raise


def connector(path: str, busy_seconds: float) -> Callable[[], aiosqlite.Connection]:
    """Return what opens connections to a database file; each waits this long for another process's lock."""

    def connect() -> aiosqlite.Connection:
        connection = PatientConnection(lambda: sqlite3.connect(path, timeout=busy_seconds), iter_chunk_size=64)
        # A killed event loop must not leave a process that waits for its database threads.
        connection._thread.daemon = True  # as SQLAlchemy does for connections that it opens itself
        return connection

    return connect
