"""A store on a virtual clock: SQLite in memory, and what its driver leaves to a thread is done at once."""

import asyncio
import sqlite3
from collections.abc import Callable
from threading import Thread
from typing import Any

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from twinlock.store.engine import _begin_sqlite
from twinlock.store.patient import PatientConnection
from twinlock.store.tables import metadata


class _AtOnce:
    """Take the place of the queue to a connection's thread."""

    def put_nowait(self, item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        """Do it."""
        future, work = item
        try:
            found = work()
        except Exception as fault:  # noqa: BLE001  # it is the caller's, who awaits the future
            if future is not None:
                future.set_exception(fault)
        else:
            if future is not None:
                future.set_result(found)


def _connect() -> aiosqlite.Connection:
    connection: Any = PatientConnection(lambda: sqlite3.connect(":memory:", isolation_level=None), iter_chunk_size=64)
    connection._tx = _AtOnce()
    connection._thread = Thread(target=lambda: None)
    return connection  # type: ignore[no-any-return]  # the library has no types for what is replaced here


async def inline_engine() -> AsyncEngine:
    """Open an engine with every table on one connection, which outlives any loop: one transaction at a time."""
    engine = create_async_engine("sqlite+aiosqlite://", async_creator=_connect, poolclass=StaticPool)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    return engine
