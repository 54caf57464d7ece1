"""What the store asks of PostgreSQL: isolation, no needless trips, and connections that nothing leaves broken."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update

from tests.servers.postgres import Postgres
from tests.servers.proxy import proxied
from twinlock.clock import ManualClock, SystemClock
from twinlock.store.clock import DatabaseClock, TimeUnknown
from twinlock.store.engine import open_engine
from twinlock.store.postgres import OVERFLOW, POOL, DatabaseUnavailable
from twinlock.store.tables.work import turns
from twinlock.store.unit import Cause, Reader, StaleRead, Store, Unit

CAUSE = Cause("c")


@pytest.fixture
async def shared(postgres_url: str, clock: ManualClock) -> AsyncIterator[Store]:
    """Open a store on PostgreSQL."""
    store = Store(open_engine(postgres_url), clock, "urn:twinlock:test")
    yield store
    await store.close()


async def _shown(reader: Reader) -> list[str]:
    return [await reader.scalar(text(f"SHOW transaction_{name}")) for name in ("isolation", "read_only")]


async def test_isolation(shared: Store) -> None:
    """A reader sees one state and can't write; a unit sees what is committed; each also after the other."""
    seen = []
    for _ in range(2):
        async with shared.read() as reader:
            seen.append(await _shown(reader))
        async with shared.begin(CAUSE) as unit:
            seen.append(await _shown(unit))

    assert [["repeatable read", "on"], ["read committed", "off"]] * 2 == seen


async def _counted(reader: Reader, sent: list[int]) -> None:
    """Have every write to the server counted: the driver waits for the answer after each."""
    driver: Any = (await reader.connection.get_raw_connection()).driver_connection
    write = driver._transport.write

    def counting(content: Any) -> None:
        sent.append(len(content))
        write(content)

    driver._transport.write = counting


async def test_trips(shared: Store) -> None:
    """A reader and a unit cost one trip a statement, one to begin and one to end, and none to see to the connection."""
    sent: list[int] = []
    async with shared.read() as reader:
        await _counted(reader, sent)
        await reader.rows(select(turns))
    sent.clear()
    async with shared.read() as reader:
        await reader.rows(select(turns))
        await reader.rows(select(turns))
    reading = len(sent)
    async with shared.begin(CAUSE) as unit:
        await unit.rows(select(turns))

    assert (4, 3) == (reading, len(sent) - reading)


async def _add_turns(store: Store) -> None:
    async with store.begin(CAUSE) as unit:
        await unit.execute(insert(turns), [{"worker": "w", "tenant_id": tenant, "turn": 0} for tenant in "ab"])


async def _raise(unit: Unit, tenant: str) -> None:
    await unit.execute(update(turns).where(turns.c.tenant_id == tenant).values(turn=turns.c.turn + 1))


async def test_deadlock(shared: Store) -> None:
    """Of two units that wait for each other one is told to start over, and the other commits."""
    await _add_turns(shared)
    both = asyncio.Barrier(2)

    async def cross(first: str, second: str) -> bool:
        try:
            async with shared.begin(CAUSE) as unit:
                await _raise(unit, first)
                await both.wait()
                await _raise(unit, second)
        except StaleRead:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cross("a", "b")), group.create_task(cross("b", "a"))]

    assert [False, True] == sorted(task.result() for task in tasks)
    async with shared.read() as reader:
        assert [1, 1] == [row.turn for row in await reader.rows(select(turns))]


async def test_changed_shape(shared: Store, postgres: Postgres, postgres_url: str) -> None:
    """A unit whose prepared statement is out of date since a migration is told to start over, and then works."""
    name = postgres_url.rpartition("/")[2]
    async with shared.begin(CAUSE) as unit:
        await unit.rows(select(turns))
    await asyncio.to_thread(postgres.execute, "ALTER TABLE turns ALTER COLUMN worker TYPE text", name)
    with pytest.raises(StaleRead):
        async with shared.begin(CAUSE) as unit:
            await unit.rows(select(turns))

    async with shared.begin(CAUSE) as unit:
        assert [] == await unit.rows(select(turns))


async def test_cancelled_everywhere(shared: Store, postgres: Postgres, postgres_url: str) -> None:
    """Law 11: units cancelled at every step leave no transaction open, no lock, and no connection out of the pool."""
    name = postgres_url.rpartition("/")[2]
    await _add_turns(shared)

    async def write() -> None:
        while True:
            async with shared.begin(CAUSE) as unit:
                await _raise(unit, "a")
                await unit.scalar(select(func.pg_sleep(0.001)))

    for steps in range(0, 120, 3):
        task = asyncio.ensure_future(write())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    async with asyncio.timeout(20), shared.begin(CAUSE) as unit:
        await _raise(unit, "a")
    open_ = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state LIKE 'idle in%'"  # noqa: S608

    assert "Connections in pool" in shared.engine.pool.status()
    assert 0 == shared.engine.pool.checkedout()  # type: ignore[attr-defined]  # the pool that has a size
    assert 0 == await asyncio.to_thread(postgres.execute, open_)


async def test_cancelled_while_waiting_for_a_lock(shared: Store) -> None:
    """A unit cancelled while it waits for another's lock gives up its place, and the other one goes on."""
    await _add_turns(shared)

    async def wait() -> None:
        async with shared.begin(CAUSE) as unit:
            await _raise(unit, "a")

    async with shared.begin(CAUSE) as holder:
        await _raise(holder, "a")
        waiting = asyncio.ensure_future(wait())
        async with asyncio.timeout(20):
            while not await holder.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                pass  # the question itself lets the other unit run
        waiting.cancel()
        await asyncio.wait({waiting})
        await _raise(holder, "a")

    assert waiting.cancelled()
    async with shared.read() as reader:
        assert 2 == await reader.scalar(select(turns.c.turn).where(turns.c.tenant_id == "a"))


async def test_closed_connection(shared: Store, postgres: Postgres, postgres_url: str) -> None:
    """A connection that the server closed while it lay in the pool is replaced before anybody notices."""
    name = postgres_url.rpartition("/")[2]
    async with shared.read() as reader:
        await reader.rows(select(turns))
        driver: Any = (await reader.connection.get_raw_connection()).driver_connection
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
    await asyncio.to_thread(postgres.execute, end)
    for _ in range(10_000):
        await asyncio.sleep(0)  # the loop has to see it
    assert driver.is_closed()

    async with shared.read() as reader:
        assert [] == await reader.rows(select(turns))


async def test_lost_connections(postgres: Postgres, postgres_url: str) -> None:
    """Of connections that a network has forgotten one is waited for, and none of the others is trusted after it."""
    async with proxied(postgres.port) as proxy:
        url = postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/")
        store = Store(open_engine(f"{url}?command_timeout=2"), SystemClock(), "urn:x")
        await _look(store, POOL)
        proxy.strand()
        with pytest.raises(DatabaseUnavailable, match="took over 2 s"):
            async with store.read() as reader:
                await reader.rows(select(turns))
        await _look(store, POOL)
        await store.close()


async def _look(store: Store, count: int) -> None:
    async def look() -> None:
        async with store.read() as reader:
            await reader.rows(select(turns))

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(look())


async def test_more_units_than_connections(shared: Store) -> None:
    """More units than the pool has connections wait their turn, and all of them commit."""
    await _add_turns(shared)

    async def work() -> None:
        async with shared.begin(CAUSE) as unit:
            await _raise(unit, "a")

    async with asyncio.TaskGroup() as group:
        for _ in range(5 * (POOL + OVERFLOW)):
            group.create_task(work())

    async with shared.read() as reader:
        assert 5 * (POOL + OVERFLOW) == await reader.scalar(select(turns.c.turn).where(turns.c.tenant_id == "a"))


async def test_down() -> None:
    """A database that is not there is one error for stores and for people, without the password."""
    store = Store(open_engine("postgresql+asyncpg://twinlock:canary@127.0.0.1:1/twinlock"), ManualClock(), "urn:x")
    with pytest.raises(DatabaseUnavailable) as caught:
        async with store.read() as reader:
            await reader.rows(select(turns))

    assert "nothing answers for PostgreSQL at 127.0.0.1:1" == caught.value.detail
    assert "canary" not in repr(caught.value)


class _Wrong(SystemClock):
    """Tell a time that is hours off."""

    def __init__(self, hours: float) -> None:
        self._off = timedelta(hours=hours)

    def now(self) -> Any:
        return super().now() + self._off


async def test_one_time(postgres_url: str) -> None:
    """Law 12: processes whose machines' clocks are hours apart agree on the database's time, within what they state."""
    stores = [Store(open_engine(postgres_url), DatabaseClock(_Wrong(hours)), "urn:x") for hours in (-5, 0, 7)]
    for store in stores:
        async with store.read() as reader:
            there = await reader.scalar(text("SELECT clock_timestamp()"))
        clock = store.clock
        assert isinstance(clock, DatabaseClock)
        assert clock.uncertainty is not None
        late = (clock.now() - there).total_seconds()
        await store.close()

        assert -clock.uncertainty <= late < 5 + clock.uncertainty


async def test_unit_knows_the_time(postgres_url: str) -> None:
    """A unit's clock has been read by the time the unit begins, and its reading is no part of the transaction."""
    store = Store(open_engine(postgres_url), DatabaseClock(_Wrong(9)), "urn:x")
    async with store.begin(CAUSE) as unit:
        began = await unit.scalar(text("SELECT now()"))
        late = (unit.clock.now() - began).total_seconds()
    await store.close()

    assert abs(late) < 60


class _Slow(ManualClock):
    """Let every look at the time take a second."""

    def monotonic(self) -> float:
        self.advance(1.5)
        return super().monotonic()


async def test_slow_database(postgres_url: str) -> None:
    """A time that can't be known well enough is not taken for one."""
    store = Store(open_engine(postgres_url), DatabaseClock(_Slow()), "urn:x")
    with pytest.raises(TimeUnknown):
        async with store.begin(CAUSE):
            pass
    await store.close()
