"""The event loop on which waiting takes no time."""

import asyncio

import pytest

from tests.virtual import VirtualClock, virtually


def test_time_jumps() -> None:
    """Sleepers and timeouts run in the order of their times, however far away these are."""
    clock, seen = VirtualClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append(clock.monotonic())

    async def work() -> float:
        async with asyncio.TaskGroup() as group:
            for seconds in (86400.0, 0.25, 3.0):
                group.create_task(sleep(seconds))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await clock.sleep(9)
        return clock.monotonic()

    assert 86405.0 == virtually(work)
    assert [0.25, 3.0, 86400.0] == seen


def test_stuck() -> None:
    """What can never go on is told instead of waited for."""

    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="no timer"):
        virtually(work)


def test_left_running() -> None:
    """A task that is left behind fails the run."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        kept.append(loop.create_task(asyncio.sleep(1)))

    kept: list[asyncio.Task[None]] = []
    with pytest.raises(AssertionError, match="left running"):
        virtually(work)
