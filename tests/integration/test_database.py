"""What the database itself refuses and keeps, whoever writes to it."""

import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from twinlock.store.engine import open_engine
from twinlock.store.tables.content import container_keys, containers, items
from twinlock.store.tables.custody import policies, policy_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store, Unit

CAUSE = Cause("correlation-1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_moments(store: Store) -> None:
    """A moment comes back as the same moment in UTC, to the microsecond, and sorts by time whatever its zone was."""
    first = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5)))
    second = datetime(2026, 1, 1, 8, 0, tzinfo=UTC)
    async with store.begin(CAUSE) as unit:
        for name, moment in (("second", second), ("first", first)):
            await unit.execute(insert(tenants).values(id=name, name=name, trial=False, created_at=moment))
    async with store.read() as reader:
        rows = await reader.rows(select(tenants.c.created_at).order_by(tenants.c.created_at))
        later = await reader.scalar(select(tenants.c.name).where(tenants.c.created_at > first))

    assert [first, second] == [row.created_at for row in rows]
    assert {UTC} == {row.created_at.tzinfo for row in rows}
    assert "second" == later


async def test_naive_moment(store: Store) -> None:
    """A moment without a zone is refused: it would be another one elsewhere."""
    with pytest.raises(StatementError, match="naive"):
        async with store.begin(CAUSE) as unit:
            await unit.execute(insert(tenants).values(id="a", name="a", trial=False, created_at=datetime(2026, 1, 1)))  # noqa: DTZ001  # refused on purpose

    async with store.read() as reader:
        assert 0 == await reader.scalar(select(func.count()).select_from(tenants))


async def _with_container(unit: Unit) -> None:
    """Add a mailbox with one key generation and nothing under it."""
    await unit.execute(insert(tenants).values(id="t", name="t", trial=False, created_at=NOW))
    policy = {"id": "p", "tenant_id": "t", "name": "p", "workload": "mailbox", "mode": "standard", "state": "active"}
    await unit.execute(
        insert(policies).values(**policy, health="healthy", newest_generation=1, version=1, created_at=NOW)
    )
    await unit.execute(insert(policy_keys).values(policy_id="p", generation=1, commitment=b"c" * 32, created_at=NOW))
    mailbox = {"id": "c", "tenant_id": "t", "workload": "mailbox", "name": "a@b", "kind": "user", "licensed": True}
    await unit.execute(
        insert(containers).values(**mailbox, policy_id="p", newest_generation=1, version=1, created_at=NOW)
    )
    key = {"container_id": "c", "generation": 1, "policy_id": "p", "policy_key_generation": 1, "wrapped": b"w"}
    await unit.execute(
        insert(container_keys).values(**key, commitment=b"c" * 32, item_count=0, encrypted_count=0, created_at=NOW)
    )


def _item(**changes: Any) -> dict[str, Any]:
    item = {"container_id": "c", "id": "i", "generation": 1, "version": 1, "kind": "eml", "size": 1, "format": "item-1"}
    more = {"object_name": None, "import_mac": b"m" * 32, "occurrence": 0, "created_at": NOW, "body": b"ciphertext"}
    return {**item, **more, **changes}


async def test_generation_in_use(store: Store) -> None:
    """Law 3: the database refuses to destroy a key generation while an item is left under it, and not after."""
    async with store.begin(CAUSE) as unit:
        await _with_container(unit)
        await unit.execute(insert(items).values(_item()))
    with pytest.raises(IntegrityError):
        async with store.begin(CAUSE) as unit:
            await unit.execute(delete(container_keys))

    async with store.begin(CAUSE) as unit:
        await unit.execute(delete(items))
        await unit.execute(delete(container_keys))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"generation": 2}, id="under no generation"),
        pytest.param({"container_id": "elsewhere"}, id="in no container"),
        pytest.param({"body": None}, id="nowhere"),
        pytest.param({"object_name": "o"}, id="in two places"),
        pytest.param({"import_mac": None}, id="without its import MAC"),
    ],
)
async def test_impossible_item(store: Store, changes: dict[str, Any]) -> None:
    """Law 3: an item that lies under no generation, in no place or in two is refused by the database."""
    async with store.begin(CAUSE) as unit:
        await _with_container(unit)
    with pytest.raises(IntegrityError):
        async with store.begin(CAUSE) as unit:
            await unit.execute(insert(items).values(_item(**changes)))


async def test_count_below_zero(store: Store) -> None:
    """The database refuses a count of items that can't be true."""
    async with store.begin(CAUSE) as unit:
        await _with_container(unit)
    with pytest.raises(IntegrityError):
        async with store.begin(CAUSE) as unit:
            await unit.execute(update(container_keys).values(item_count=-1))


async def test_sqlite_settings(sqlite_template: Path, tmp_path: Path) -> None:
    """SQLite runs with a write-ahead log, full durability, foreign keys, patience, and overwrites what is deleted."""
    names = ["journal_mode", "synchronous", "foreign_keys", "busy_timeout", "secure_delete"]
    engine = open_engine(f"sqlite+aiosqlite:///{shutil.copyfile(sqlite_template, tmp_path / 'twinlock.db')}")
    async with engine.connect() as connection:
        found = [await connection.scalar(text(f"PRAGMA {name}")) for name in names]
    await engine.dispose()

    assert ["wal", 2, 1, 30_000, 1] == found
