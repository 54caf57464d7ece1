"""The unit of work and the database below it."""

import asyncio
import contextlib
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Select, event, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from schemas.envelope import parse
from schemas.facts import AssignmentWoken
from twinlock.crashpoints import CrashPoint, arm
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import turns
from twinlock.store.unit import Cause, Reader, Store, Unit

CAUSE = Cause("correlation-1", "cause-1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Crash(BaseException):
    """Stand for the death of the process: nothing that catches exceptions catches it."""


def _die() -> None:
    raise Crash


async def _change(unit: Unit, name: str) -> None:
    """Change state and say so."""
    await unit.execute(insert(tenants).values(id=name, name=name, trial=False, created_at=NOW))
    unit.emit(AssignmentWoken(slot=0), event_id=name)


def _counts() -> Select[Any]:
    return select(
        select(func.count()).select_from(tenants).scalar_subquery(),
        select(func.count()).select_from(outbox).scalar_subquery(),
    )


async def _found(store: Store) -> tuple[int, ...]:
    async with store.read() as reader:
        row = await reader.row(_counts())
        assert row is not None
        return tuple(row)


async def test_together(store: Store) -> None:
    """Law 11: a commit leaves the state and its events, and wakes whoever publishes them."""
    async with store.begin(CAUSE) as unit:
        await _change(unit, "a")
        assert not store.outgoing.is_set()

    async with store.read() as reader:
        body = await reader.scalar(select(outbox.c.body))
    envelope, told = parse(body)

    assert (1, 1) == await _found(store)
    assert store.outgoing.is_set()
    assert AssignmentWoken(slot=0) == told
    assert ("a", "correlation-1", "cause-1") == (envelope.id, envelope.correlation, envelope.causationid)


async def test_queued_changes(store: Store) -> None:
    """Law 11: queued changes are made with the unit's events, every row of a statement, or not at all."""
    adding = insert(tenants)
    rows = [{"id": name, "name": name, "trial": False, "created_at": NOW} for name in "abc"]
    with contextlib.suppress(LookupError):
        async with store.begin(CAUSE) as unit:
            unit.queue(adding, rows)
            raise LookupError
    nothing = await _found(store)
    async with store.begin(CAUSE) as unit:
        unit.queue(adding, rows[:1])
        unit.emit(AssignmentWoken(slot=0))
        unit.queue(adding, rows[1:])
        unit.queue(insert(tenants), [])

    assert (0, 0) == nothing
    assert (3, 1) == await _found(store)


async def test_silent_commit(store: Store) -> None:
    """A commit without events wakes nobody."""
    async with store.begin(CAUSE) as unit:
        await unit.execute(insert(tenants).values(id="a", name="a", trial=False, created_at=NOW))

    assert (1, 0) == await _found(store)
    assert not store.outgoing.is_set()


async def test_early_flush(store: Store) -> None:
    """Events that were written before the end of the unit wake the publisher too."""
    async with store.begin(CAUSE) as unit:
        await _change(unit, "a")
        await unit.flush()

    assert (1, 1) == await _found(store)
    assert store.outgoing.is_set()


async def test_exception(store: Store) -> None:
    """Law 11: an exception takes back the state and the events, and the next unit works."""

    async def _work() -> None:
        async with store.begin(CAUSE) as unit:
            await _change(unit, "a")
            await unit.flush()
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await _work()

    assert (0, 0) == await _found(store)
    assert not store.outgoing.is_set()
    async with store.begin(CAUSE) as unit:
        await _change(unit, "a")
    assert (1, 1) == await _found(store)


async def test_same_event_twice(store: Store) -> None:
    """An event whose id is in the outbox already takes its whole unit back."""
    async with store.begin(CAUSE) as unit:
        await _change(unit, "a")

    async def _work() -> None:
        async with store.begin(CAUSE) as unit:
            await unit.execute(insert(tenants).values(id="b", name="b", trial=False, created_at=NOW))
            unit.emit(AssignmentWoken(slot=1), event_id="a")

    with pytest.raises(IntegrityError):
        await _work()

    assert (1, 1) == await _found(store)


@pytest.mark.parametrize(("point", "expected"), [(CrashPoint.BEFORE_COMMIT, (0, 0)), (CrashPoint.AFTER_COMMIT, (1, 1))])
async def test_crash(store: Store, point: CrashPoint, expected: tuple[int, int]) -> None:
    """Law 11: dying right before the commit leaves nothing, dying right after it leaves everything."""
    arm(point, _die)
    with pytest.raises(Crash):
        async with store.begin(CAUSE) as unit:
            await _change(unit, "a")

    assert expected == await _found(store)


@pytest.mark.parametrize("where", ["begin", "INSERT INTO tenants", "INSERT INTO outbox", "commit"])
async def test_cancelled(store: Store, where: str) -> None:
    """Law 11: wherever a cancellation hits, state and events are there together or not at all; the store works on."""
    hits: list[str] = []

    async def _work() -> None:
        async with store.begin(CAUSE) as unit:
            await _change(unit, "a")

    def _hit(*_: Any) -> None:
        if not hits:
            hits.append(where)
            task.cancel()

    def _at_statement(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if where in statement:
            _hit()

    name, listener = (where, _hit) if where in ("begin", "commit") else ("before_cursor_execute", _at_statement)
    event.listen(store.engine.sync_engine, name, listener)
    task = asyncio.ensure_future(_work())
    await asyncio.wait([task])
    event.remove(store.engine.sync_engine, name, listener)
    found = await _found(store)

    assert [where] == hits
    assert task.cancelled()
    assert found in ([(0, 0), (1, 1)] if where == "commit" else [(0, 0)])
    assert store.outgoing.is_set() or found == (0, 0)
    async with store.begin(CAUSE) as unit:
        await _change(unit, "b")
    assert (found[0] + 1, found[1] + 1) == await _found(store)


async def test_cancelled_in_the_middle(store: Store) -> None:
    """Law 11: a unit that is cancelled while its transaction is open leaves nothing and frees the writer."""
    reached = asyncio.Event()

    async def _work() -> None:
        async with store.begin(CAUSE) as unit:
            await _change(unit, "a")
            await unit.flush()
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(_work())
    await reached.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert (0, 0) == await _found(store)
    async with store.begin(CAUSE) as unit:
        await _change(unit, "a")
    assert (1, 1) == await _found(store)


async def test_reader_sees_one_state(store: Store) -> None:
    """A reader sees the state of its beginning while a writer commits, and does not wait for it."""

    async def _seen(reader: Reader) -> Any:
        return await reader.scalar(select(func.count()).select_from(tenants))

    async with store.read() as before:
        assert 0 == await _seen(before)
        async with store.begin(CAUSE) as unit:
            await _change(unit, "a")
            assert 0 == await _seen(before)
            async with store.read() as beside:
                assert 0 == await _seen(beside)
        assert 0 == await _seen(before)
        assert 0 == await before.scalar(select(func.count()).select_from(outbox))
    assert (1, 1) == await _found(store)


async def _count_up(store: Store, times: int) -> None:
    """Raise a number by reading it and writing it back: what is lost to an interleaving is missing at the end."""
    row = (turns.c.worker == "w") & (turns.c.tenant_id == "t")
    for _ in range(times):
        async with store.begin(CAUSE) as unit:
            number = await unit.scalar(select(turns.c.turn).where(row).with_for_update())
            await unit.execute(update(turns).where(row).values(turn=number + 1))
            unit.emit(AssignmentWoken(slot=0))


async def _start_at_zero(store: Store) -> None:
    async with store.begin(CAUSE) as unit:
        await unit.execute(insert(turns).values(worker="w", tenant_id="t", turn=0))


async def _totals(store: Store) -> tuple[int, int]:
    async with store.read() as reader:
        events = await reader.scalar(select(func.count()).select_from(outbox))
        return await reader.scalar(select(turns.c.turn)), events


async def test_many_tasks(store: Store) -> None:
    """Units of many tasks and two stores of one process take turns: none fails, no update is lost."""
    await _start_at_zero(store)
    beside = Store(store.engine, store.clock, store.source)
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(_count_up((store, beside)[number % 2], 5))

    assert (100, 100) == await _totals(store)


_OTHER_PROCESS = """
import asyncio, sys
from importlib.util import module_from_spec, spec_from_file_location
from twinlock.clock import SystemClock
from twinlock.store.engine import open_engine
from twinlock.store.unit import Store

async def main():
    spec = spec_from_file_location("shared", sys.argv[2])
    shared = module_from_spec(spec)
    spec.loader.exec_module(shared)
    store = Store(open_engine(sys.argv[1]), SystemClock(), "urn:twinlock:other")
    await shared._count_up(store, 40)
    await store.close()

asyncio.run(main())
"""


async def test_two_processes(store: Store, database: str) -> None:
    """Units of two processes take turns: the database is never locked for either, and no update is lost."""
    await _start_at_zero(store)
    command = [sys.executable, "-c", _OTHER_PROCESS, database, __file__]
    others = [await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE) for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        group.create_task(_count_up(store, 40))
        answers = [group.create_task(other.communicate()) for other in others]

    assert [b"", b""] == [answer.result()[1] for answer in answers]
    assert (120, 120) == await _totals(store)


async def test_cancelled_statement_frees_the_lock(store: Store) -> None:
    """Law 11: a unit cancelled inside a statement holds no lock, however long its task and traceback are kept."""
    kept: list[asyncio.Task[None]] = []

    async def write() -> None:
        while True:
            async with store.begin(CAUSE) as unit:
                await unit.rows(select(tenants))

    for steps in range(40):
        task = asyncio.ensure_future(write())
        kept.append(task)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        async with asyncio.timeout(20), store.begin(CAUSE) as unit:
            await unit.rows(select(tenants))

    assert all(task.cancelled() for task in kept)
