"""Bring a database to the shape that this program needs.

Any number of processes may start at once: the first takes the database's own lock and migrates, the others wait and
find nothing to do. Everything happens in one transaction, so that a crash leaves the old shape; only indexes that are
built while others work are committed one by one, and whoever comes after a crash builds them again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from twinlock.errors import TwinlockError
from twinlock.store.engine import WRITE
from twinlock.store.tables.shape import shape

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")
_LOCK = 0x7477696E6C6F636B  # "twinlock" in ASCII: PostgreSQL's advisory locks have numbers, not names
_TAKE, _FREE = text("SELECT pg_try_advisory_lock(:number)"), text("SELECT pg_advisory_unlock(:number)")
_POLL_SECONDS = 0.05


class NewerDatabase(TwinlockError):
    """Refuse a database that a newer program has migrated: what this one would write could be wrong there."""


async def upgrade(engine: AsyncEngine, revision: str | None = None) -> bool:
    """Migrate to the newest shape, or up to a revision, and return whether anything changed.

    Of one process, one database at a time.
    """
    return await _locked(engine, lambda connection: _upgrade(connection, revision))


async def downgrade(engine: AsyncEngine, revision: str) -> None:
    """Migrate back to an older revision; `base` leaves no table, and no data."""
    await _locked(engine, lambda connection: command.downgrade(_config(connection), revision))


async def current(engine: AsyncEngine) -> str | None:
    """Return the database's revision, or none for a database without our tables."""
    async with engine.connect() as connection:
        return await connection.run_sync(_revision)


async def is_current(engine: AsyncEngine) -> bool:
    """Return whether the database has the shape that this program needs, or a later one that still has what it needs.

    Raise `NewerDatabase` for a later one that has not.
    """
    found, scripts = await current(engine), _scripts()
    if not _is_newer(scripts, found):
        return found == scripts.get_current_head()
    async with engine.connect() as connection:
        oldest = await connection.run_sync(_oldest)
    if oldest is None or _is_newer(scripts, oldest):
        raise _newer(found)
    log.warning("the database has the newer revision %s, which still serves this program: upgrade it", found)
    return True


async def _locked(engine: AsyncEngine, change: Callable[[Connection], ResultT]) -> ResultT:
    async with engine.connect() as plain:
        if engine.dialect.name == "postgresql":
            async with _alone(engine):
                return await plain.run_sync(change)
        # SQLite is locked by this: a transaction that will write begins as IMMEDIATE.
        connection = await plain.execution_options(**{WRITE: True})
        async with connection.begin():
            return await connection.run_sync(change)


@asynccontextmanager
async def _alone(engine: AsyncEngine) -> AsyncIterator[None]:
    """Hold the lock by a session of its own. Who waited for it within a statement would hold up an index's build."""
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        while not await connection.scalar(_TAKE, {"number": _LOCK}):  # noqa: ASYNC110  # it is freed by another process
            await asyncio.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            await connection.execute(_FREE, {"number": _LOCK})


def _upgrade(connection: Connection, revision: str | None) -> bool:
    scripts, found = _scripts(), _revision(connection)
    wanted = revision or scripts.get_current_head()
    if found == wanted:
        return False
    if _is_newer(scripts, found):
        raise _newer(found)
    if connection.dialect.name == "postgresql":
        connection.rollback()  # of what was read: the migrations begin and end their own transactions
    command.upgrade(_config(connection), str(wanted))
    return True


def _is_newer(scripts: ScriptDirectory, revision: str | None) -> bool:
    return revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}


def _newer(found: str | None) -> NewerDatabase:
    return NewerDatabase(f"the database has the unknown revision {found}", hint="run the program that made it")


def _oldest(connection: Connection) -> str | None:
    return connection.scalar(select(shape.c.oldest)) if inspect(connection).has_table(shape.name) else None


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "twinlock.store:migrations")
    return config
