"""Open the database: SQLite embedded, PostgreSQL for a fleet, through one asynchronous engine."""

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from twinlock.errors import TwinlockError
from twinlock.store.patient import connector
from twinlock.store.postgres import open_postgresql

WRITE = "twinlock_write"
BUSY_SECONDS = 30
_SUPPORTED = "write sqlite+aiosqlite:///PATH or postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE"


class UnsupportedDatabase(TwinlockError, ValueError):
    """Refuse a database URL; the message never shows it, for it may hold a password."""


def open_engine(url: str) -> AsyncEngine:
    """Open an engine; nothing is connected yet. Raise `UnsupportedDatabase` for a URL that can't serve."""
    parsed = _parse(url)
    if parsed.drivername == "sqlite+aiosqlite":
        return _sqlite(parsed)
    if parsed.drivername == "postgresql+asyncpg":
        return _postgresql(parsed)
    raise UnsupportedDatabase(f"a database of the kind {parsed.drivername!r} is not supported", hint=_SUPPORTED)


def _postgresql(url: URL) -> AsyncEngine:
    try:
        return open_postgresql(url)
    except ValueError as fault:
        raise UnsupportedDatabase(str(fault), hint="change the end of the database's URL") from None


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # The parser's own error may quote a piece of the password as a port.
        raise UnsupportedDatabase("the database URL can't be read", hint=_SUPPORTED) from None


def _sqlite(url: URL) -> AsyncEngine:
    path = url.database or ":memory:"
    if path == ":memory:" or path.startswith("file:") or url.host or url.username:
        # Every connection to memory would see a database of its own, and write-ahead logging needs a file.
        raise UnsupportedDatabase("SQLite needs the path of a file", hint=_SUPPORTED)
    engine = create_async_engine(url, async_creator=connector(path, BUSY_SECONDS), hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # The driver's own implicit BEGIN comes too late (at the first write); transactions are begun explicitly below.
    driver: Any = connection
    driver.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "synchronous=FULL",
        "foreign_keys=ON",
        # Deleted ciphertext and wrapped keys are overwritten, not left in free pages.
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.execute("PRAGMA journal_mode=WAL")
    mode = cursor.fetchone()
    cursor.close()
    if mode != ("wal",):
        raise UnsupportedDatabase(
            "SQLite can't keep a write-ahead log here", hint="put the database on a local file system"
        )


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that will write takes the lock at once: upgrading a read lock later can fail at any statement.
    write = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
