"""Doing together what many ask for at the same moment."""

import asyncio
from collections.abc import Sequence

import pytest

from events.together import Together


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


async def test_first_goes_at_once() -> None:
    """The first one goes alone and at once; what comes meanwhile goes together, each with its own result."""
    desk = Desk()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = [group.create_task(desk.together(number)) for number in range(4)]
        await breathe()
        begun = list(desk.batches)
        desk.gate.set()

    assert [[0]] == begun
    assert [[0], [1, 2, 3]] == desk.batches
    assert [0, 2, 4, 6] == [task.result() for task in tasks]


async def test_bounds() -> None:
    """No batch is larger than it may be, and no more of them run at a time than there are lanes."""
    desk = Desk(most=2, lanes=2)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(desk.together(number))
        await breathe()
        begun = list(desk.batches)
        desk.gate.set()

    assert [[0], [1]] == begun
    assert [[0], [1], [2, 3], [4, 5]] == desk.batches


async def test_failure_is_its_batch_s() -> None:
    """What fails a batch is raised for each of it, and what comes after it goes on."""
    desk = Desk(most=2)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(desk, number)) for number in (1, 13, 2, 3)]
        await breathe()
        desk.gate.set()

    assert [2, "thirteen", "thirteen", 6] == [task.result() for task in tasks]


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
        tasks = [group.create_task(desk.together(number)) for number in range(3)]
        await breathe()
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
        tasks = [group.create_task(desk.together(number)) for number in range(4)]
        await breathe()
        tasks[0].cancel()
        await breathe()
        tasks[1].cancel()
        await breathe()
        desk.gate.set()

    assert [[0], [1, 2, 3], [2, 3]] == desk.batches
    assert [4, 6] == [task.result() for task in tasks[2:]]
