"""SQLite connections that finish what they began, also for a caller that is cancelled, and waste no trips.

A cancelled await does not stop the statement in the driver's thread. Left alone, a BEGIN or a COMMIT would run on a
connection that everybody has given up, and hold the database's only write lock for good.

A statement is a trip to the driver's thread and back, which takes longer than most statements do. SQLAlchemy makes four
of them a statement (open a cursor, execute, fetch, close); with `OneTripCursor` it is one.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Coroutine
from typing import Any

import aiosqlite


class OneTripCursor:
    """Run a statement, fetch all of its rows and close, in one go.

    It is what `sqlalchemy.connectors.asyncio.AsyncIODBAPICursor` asks of a cursor whose rows are all fetched at once;
    streaming from the server side, which asks for more, is not offered.
    """

    def __init__(self, connection: "PatientConnection") -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "OneTripCursor":
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> None:
        """Run a statement once."""
        await self._connection._execute(self._run, sqlite3.Cursor.execute, sql, parameters)

    async def executemany(self, sql: str, parameters: Any) -> None:
        """Run a statement for each of many parameters."""
        await self._connection._execute(self._run, sqlite3.Cursor.executemany, sql, parameters)

    async def fetchall(self) -> list[Any]:
        """Hand out the rows."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Do nothing: it is closed since the statement ended."""

    def _run(self, method: Callable[..., Any], sql: str, parameters: Any) -> None:
        with contextlib.closing(self._connection._conn.cursor()) as cursor:
            method(cursor, sql, parameters)
            self.description = cursor.description
            self._rows = cursor.fetchall() if cursor.description else []
            self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid


class PatientConnection(aiosqlite.Connection):
    """Let a cancellation pass only after the statement under way has ended, and close with nothing left open."""

    def cursor(self) -> Any:
        """Return a cursor, without a trip."""
        return OneTripCursor(self)

    async def rollback(self) -> None:
        """Roll back, if there is anything to: the pool asks for it after every commit as well."""
        if self.in_transaction:
            await super().rollback()

    async def close(self) -> None:
        """Roll back, then close: SQLite keeps a closed connection, and its lock, while a cursor of it still lives.

        The cursor of a cancelled statement lives as long as the traceback that shows it.
        """
        if self._running and self._connection is not None:
            await self.rollback()
        await super().close()

    async def _connect(self) -> aiosqlite.Connection:
        try:
            return await super()._connect()
        except BaseException:
            # Its thread still has to say that it ended, and would find the loop closed: with a traceback on stderr.
            await asyncio.to_thread(self._thread.join)
            raise

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        execute: Callable[..., Coroutine[Any, Any, Any]] = super()._execute  # the library gives it no types
        call = asyncio.ensure_future(execute(fn, *args, **kwargs))
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
