"""The migrations: they give the shape that the program needs, once, whoever starts first."""

import asyncio
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from twinlock.clock import ManualClock
from twinlock.store import migrate, tables
from twinlock.store.engine import open_engine
from twinlock.store.tables import metadata
from twinlock.store.tables.tenants import tenants

TENANT = {"id": "t1", "name": "contoso", "trial": False, "created_at": ManualClock().now()}


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[AsyncEngine]:
    """Open a database in which nothing is."""
    opened = open_engine(empty_database)
    yield opened
    await opened.dispose()


def test_every_table_is_registered() -> None:
    """Importing the package of the tables imports every module of tables."""
    modules = {module.name for module in pkgutil.iter_modules(tables.__path__)} - {"base"}

    assert modules == set(tables.__all__) - {"metadata"}


async def test_no_difference(engine: AsyncEngine) -> None:
    """Autogeneration finds nothing to add to the migrations."""

    def _differences(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with engine.connect() as connection:
        assert [] == await connection.run_sync(_differences)


def _shown(index: Any) -> str:
    # A condition is an object, which no other one equals.
    return str({**index, "dialect_options": {name: str(value) for name, value in index["dialect_options"].items()}})


def _constraints(connection: Connection) -> dict[str, Any]:
    inspector = inspect(connection)
    return {
        name: (
            inspector.get_pk_constraint(name),
            sorted(map(str, inspector.get_check_constraints(name))),
            sorted(map(str, inspector.get_unique_constraints(name))),
            sorted(map(str, inspector.get_foreign_keys(name))),
            sorted(map(_shown, inspector.get_indexes(name))),
        )
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


async def test_same_constraints(engine: AsyncEngine, empty: AsyncEngine) -> None:
    """Every key, check, unique constraint and index is there under the name that the tables give it."""
    async with empty.begin() as connection:
        await connection.run_sync(metadata.create_all)
        expected = await connection.run_sync(_constraints)
    async with engine.connect() as connection:
        migrated = await connection.run_sync(_constraints)

    assert set(metadata.tables) == set(migrated)
    assert expected == migrated


async def test_second_run(empty: AsyncEngine) -> None:
    """The first upgrade changes the database, the second one nothing."""
    assert await migrate.current(empty) is None
    assert not await migrate.is_current(empty)
    assert await migrate.upgrade(empty)
    assert not await migrate.upgrade(empty)
    assert await migrate.is_current(empty)


async def test_ten_at_once(empty_database: str) -> None:
    """Of ten upgrades at once, each with its own connections, one does the work and none fails."""
    engines = [open_engine(empty_database) for _ in range(10)]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(migrate.upgrade(engine)) for engine in engines]
    for engine in engines:
        await engine.dispose()

    assert [False] * 9 + [True] == sorted(task.result() for task in running)


async def test_down_and_up(engine: AsyncEngine) -> None:
    """Down leaves nothing, rows or not, and up again gives a database that takes rows."""
    async with engine.begin() as connection:
        await connection.execute(insert(tenants), TENANT)
    await migrate.downgrade(engine, "base")
    async with engine.connect() as connection:
        left = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    await migrate.upgrade(engine)
    async with engine.begin() as connection:
        await connection.execute(insert(tenants), TENANT)

    assert ["alembic_version"] == left
    assert await migrate.is_current(engine)


async def test_upgrade_keeps_rows(engine: AsyncEngine) -> None:
    """An upgrade of a current database keeps what is in it."""
    async with engine.begin() as connection:
        await connection.execute(insert(tenants), TENANT)

    assert not await migrate.upgrade(engine)
    async with engine.connect() as connection:
        assert "contoso" == await connection.scalar(select(tenants.c.name))


async def test_nothing_half_done(empty: AsyncEngine) -> None:
    """An upgrade that fails in the middle leaves the database as it was."""

    def _fail_at_items(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if "CREATE TABLE items" in statement:
            raise RuntimeError("the disk is full")

    event.listen(empty.sync_engine, "before_cursor_execute", _fail_at_items)
    with pytest.raises(RuntimeError, match="disk is full"):
        await migrate.upgrade(empty)
    event.remove(empty.sync_engine, "before_cursor_execute", _fail_at_items)

    async with empty.connect() as connection:
        assert [] == await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    assert await migrate.upgrade(empty)


async def test_cut_while_indexes_are_built(postgres_url: str) -> None:
    """Indexes of large tables are built while others write; what was cut off in between is built by the next one."""
    engine, built = open_engine(postgres_url), list[str]()

    def _fail_once(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("CREATE INDEX"):
            built.append(statement)
            if len(built) == 9:
                raise RuntimeError("the disk is full")

    await migrate.downgrade(engine, "0009")
    event.listen(engine.sync_engine, "before_cursor_execute", _fail_once)
    with pytest.raises(RuntimeError, match="disk is full"):
        await migrate.upgrade(engine)

    assert "0009" == await migrate.current(engine)
    assert await migrate.upgrade(engine)
    assert await migrate.is_current(engine)

    await engine.dispose()

    assert ["assignment_outcomes"] == [statement.split()[4] for statement in built if "CONCURRENTLY" not in statement]


@pytest.mark.parametrize("ask", [migrate.upgrade, migrate.is_current])
async def test_newer_database(engine: AsyncEngine, ask: Callable[[AsyncEngine], Awaitable[bool]]) -> None:
    """A database of a newer program is refused by whoever looks, with the revision and the way out."""
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        await connection.execute(text("UPDATE shape SET oldest = '9998'"))

    with pytest.raises(migrate.NewerDatabase, match="9999") as caught:
        await ask(engine)

    assert "run the program that made it" == caught.value.hint
