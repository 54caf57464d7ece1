"""The clock that only moves when it is told to."""

import asyncio
from datetime import UTC, datetime, timedelta

from twinlock.clock import ManualClock, SystemClock


def test_moves_when_told() -> None:
    """Both clocks stand still, and move together."""
    clock = ManualClock(datetime(2026, 5, 1, tzinfo=UTC))
    before = (clock.now(), clock.monotonic())
    clock.advance(90.0)

    assert (datetime(2026, 5, 1, tzinfo=UTC), 0.0) == before
    assert (timedelta(seconds=90), 90.0) == (clock.now() - before[0], clock.monotonic())


async def test_sleepers_wake_in_order() -> None:
    """Whoever is due wakes, the earliest first, and the others sleep on."""
    clock, woken = ManualClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(sleep(seconds)) for seconds in (3.0, 1.0, 2.0, 9.0)]
        await asyncio.sleep(0)
        clock.advance(2.5)
        await tasks[2]
        early = (list(woken), clock.sleepers)
        clock.advance(10.0)

    assert ([1.0, 2.0], 2) == early
    assert [1.0, 2.0, 3.0, 9.0] == woken


async def test_cancelled_sleepers_are_forgotten() -> None:
    """A sleeper that is cancelled leaves nothing behind."""
    clock = ManualClock()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(clock.sleep(1.0))
        await asyncio.sleep(0)
        task.cancel()

    assert 0 == clock.sleepers
    clock.advance(2.0)


async def test_no_time_at_all() -> None:
    """A sleep of no time returns without any advance."""
    await ManualClock().sleep(0.0)


async def test_machine_clock() -> None:
    """The machine's clocks are aware of their zone and do not go back."""
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.0)

    assert UTC == clock.now().tzinfo
    assert before <= clock.monotonic()
