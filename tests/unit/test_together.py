"""Doing together what many ask for at the same moment."""

import asyncio
from collections.abc import Sequence

import pytest

from twinlock.together import Together


class Desk:
    """Double numbers behind a gate, and remember the batches."""

    def __init__(self, most: int = 10, lanes: int = 1) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.together: Together[int, int] = Together(self._work, most, lanes)

    async def _work(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


async def breathe() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def begun(group: asyncio.TaskGroup, desk: Desk, *numbers: int) -> list[asyncio.Task[int]]:
    """Ask one after the other, each in a turn of its own."""
    tasks = []
    for number in numbers:
        tasks.append(group.create_task(desk.together(number)))
        await breathe()
    return tasks


async def test_first_goes_at_once() -> None:
    """The first one goes alone and at once; what comes meanwhile goes together, each with its own result."""
    desk = Desk()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = await begun(group, desk, 0, 1, 2, 3)
        first = list(desk.batches)
        desk.gate.set()

    assert [[0]] == first
    assert [[0], [1, 2, 3]] == desk.batches
    assert [0, 2, 4, 6] == [task.result() for task in tasks]


async def test_woken_together() -> None:
    """Those who ask in one turn of the loop go together, and leave the other lanes free."""
    desk = Desk(lanes=2)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(desk.together(number))
        await breathe()
        await begun(group, desk, 3)
        desk.gate.set()

    assert [[0, 1, 2], [3]] == desk.batches


async def test_bounds() -> None:
    """No batch is larger than it may be, and no more of them run at a time than there are lanes."""
    desk = Desk(most=2, lanes=2)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(desk.together(number))
        await breathe()
        first = list(desk.batches)
        desk.gate.set()

    assert [[0, 1], [2, 3]] == first
    assert [[0, 1], [2, 3], [4, 5], [6, 7]] == desk.batches


async def test_failure_is_its_batch_s() -> None:
    """What fails a batch is raised for each of it, and what comes after it goes on."""
    desk = Desk(most=2)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(desk, number)) for number in (1, 13, 2, 3)]
        await breathe()
        desk.gate.set()

    assert ["thirteen", "thirteen", 4, 6] == [task.result() for task in tasks]


async def _outcome(desk: Desk, number: int) -> int | str:
    try:
        return await desk.together(number)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("cut", [0, 1, 2])
async def test_cancelled(cut: int) -> None:
    """Whoever is cancelled, working or waiting, takes nobody with him."""
    desk = Desk()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = await begun(group, desk, 0, 1, 2)
        tasks[cut].cancel()
        await breathe()
        desk.gate.set()

    assert [2 * number for number in range(3) if number != cut] == [
        task.result() for task in tasks if not task.cancelled()
    ]


async def test_leader_of_many_cancelled() -> None:
    """The work of a batch whose leader is cancelled is done again for the others."""
    desk = Desk()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = await begun(group, desk, 0, 1, 2, 3)
        tasks[0].cancel()
        await breathe()
        tasks[1].cancel()
        await breathe()
        desk.gate.set()

    assert [[0], [1, 2, 3], [2, 3]] == desk.batches
    assert [4, 6] == [task.result() for task in tasks[2:]]


async def test_cancelled_at_once() -> None:
    """One who is cancelled in the turn in which he asked leaves the lane to the others."""
    desk = Desk()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        first = group.create_task(desk.together(0))
        await asyncio.sleep(0)
        first.cancel()
        second = group.create_task(desk.together(1))
        desk.gate.set()

    assert 2 == second.result()
    assert [[1]] == desk.batches


async def test_cancelled_while_it_fails() -> None:
    """One who is cancelled in the turn in which his batch fails is cancelled, and not told of a failure instead."""
    desk = Desk()

    async def leads() -> None:
        with pytest.raises(ValueError, match="thirteen"):
            await desk.together(13)
        follower.cancel()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(leads())
        follower = group.create_task(_outcome(desk, 1))
        await breathe()
        desk.gate.set()

    assert [[13, 1]] == desk.batches
    assert follower.cancelled()
