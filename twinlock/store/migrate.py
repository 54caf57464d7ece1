"""Bring a database to the shape that this program needs.

Any number of processes may start at once: the first takes the database's own lock and migrates, the others wait and
find nothing to do. Everything happens in one transaction, so that a crash leaves the old shape.
"""

from collections.abc import Callable
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from twinlock.errors import TwinlockError
from twinlock.store.engine import WRITE

ResultT = TypeVar("ResultT")
_LOCK = 0x7477696E6C6F636B  # "twinlock" in ASCII: PostgreSQL's advisory locks have numbers, not names


class NewerDatabase(TwinlockError):
    """Refuse a database that a newer program has migrated: what this one would write could be wrong there."""


async def upgrade(engine: AsyncEngine) -> bool:
    """Migrate to the newest shape and return whether anything changed; of one process, one database at a time."""
    return await _locked(engine, _upgrade)


async def downgrade(engine: AsyncEngine, revision: str) -> None:
    """Migrate back to an older revision; `base` leaves no table, and no data."""
    await _locked(engine, lambda connection: command.downgrade(_config(connection), revision))


async def current(engine: AsyncEngine) -> str | None:
    """Return the database's revision, or none for a database without our tables."""
    async with engine.connect() as connection:
        return await connection.run_sync(_revision)


async def is_current(engine: AsyncEngine) -> bool:
    """Return whether the database has the shape that this program needs; raise `NewerDatabase` for a later one."""
    found, scripts = await current(engine), _scripts()
    _refuse_newer(scripts, found)
    return found == scripts.get_current_head()


async def _locked(engine: AsyncEngine, change: Callable[[Connection], ResultT]) -> ResultT:
    async with engine.connect() as plain:
        connection = await plain.execution_options(**{WRITE: True})
        async with connection.begin():
            # SQLite has locked already: a transaction that will write begins as IMMEDIATE.
            if engine.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            return await connection.run_sync(change)


def _upgrade(connection: Connection) -> bool:
    scripts, found = _scripts(), _revision(connection)
    if found == scripts.get_current_head():
        return False
    _refuse_newer(scripts, found)
    command.upgrade(_config(connection), "head")
    return True


def _refuse_newer(scripts: ScriptDirectory, found: str | None) -> None:
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise NewerDatabase(f"the database has the unknown revision {found}", hint="run the program that made it")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "twinlock.store:migrations")
    return config
