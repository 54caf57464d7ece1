"""Every migration keeps every row: up, down, and up again, with rows in each table that there is before it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, Table, delete, insert, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine

from twinlock.store import migrate
from twinlock.store.engine import open_engine

Rows = Mapping[str, Sequence[tuple[Any, ...]]]  # of each table, its columns by name
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_VALUES: dict[type, Any] = {int: 1, bool: False, bytes: b"twelve bytes", date: NOW.date()}
# An item lies in one place.
_LEFT_OUT = {("items", "object_name")}
# Going back from 0009 forgets the revocations of policies that are gone, and no other.
_THERE = {("revocations", "policy_id"): "the id"}


def _revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", "twinlock.store:migrations")
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[AsyncEngine]:
    """Open a database in which nothing is."""
    opened = open_engine(empty_database)
    yield opened
    await opened.dispose()


async def _reflected(engine: AsyncEngine) -> MetaData:
    found = MetaData()
    async with engine.connect() as connection:
        await connection.run_sync(lambda sync: found.reflect(sync, only=_tables(sync)))
    return found


def _tables(connection: Connection) -> list[str]:
    return [name for name in inspect(connection).get_table_names() if name != "alembic_version"]


def _value(column: Column[Any]) -> Any:
    kind = column.type.python_type
    if kind is datetime:
        return NOW if getattr(column.type, "timezone", False) else NOW.replace(tzinfo=None)
    if kind is str:
        return f"the {column.name}"[-(getattr(column.type, "length", None) or 99) :]
    return _VALUES.get(kind, {"a": [1]})  # of JSON


def _row(table: Table, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    row = {column.name: _value(column) for column in table.c if (table.name, column.name) not in _LEFT_OUT}
    row |= {name: value for (of, name), value in _THERE.items() if of == table.name}
    for key in table.foreign_key_constraints:
        for element in key.elements:
            row[element.parent.name] = known[element.column.table.name][element.column.name]
    return row


async def _fill(engine: AsyncEngine, shape: MetaData) -> Rows:
    """Put one new row into every table, in place of what is there, and return them all.

    What refers to another row refers to that one.
    """
    known: dict[str, Mapping[str, Any]] = {}
    async with engine.begin() as connection:
        for table in reversed(shape.sorted_tables):
            await connection.execute(delete(table))
        for table in shape.sorted_tables:
            known[table.name] = _row(table, known)
            await connection.execute(insert(table).values(known[table.name]))
    return await _read(engine, shape)


async def _read(engine: AsyncEngine, like: MetaData) -> Rows:
    async with engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in await connection.execute(select(*table.c))]
            for table in like.sorted_tables
        }


async def test_every_migration_keeps_every_row(empty: AsyncEngine) -> None:
    """What was in a database before a migration is in it afterwards, and after going back; nothing else is lost."""
    before, *later = _revisions()
    await migrate.upgrade(empty, before)
    shape = await _reflected(empty)
    for revision in later:
        kept = await _fill(empty, shape)
        await migrate.upgrade(empty, revision)

        assert kept == await _read(empty, shape), revision

        newer = await _reflected(empty)
        await _fill(empty, newer)
        await migrate.downgrade(empty, before)
        async with empty.connect() as connection:
            tables = await connection.run_sync(_tables)

        assert set(shape.tables) == set(tables)
        assert kept == await _read(empty, shape), revision

        await migrate.upgrade(empty, revision)

        assert kept == await _read(empty, shape), revision

        before, shape = revision, newer
