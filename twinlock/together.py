"""Doing at once what many ask for at the same moment: one statement, or one transaction, for all of them.

Nobody waits to make a batch larger: while a lane is free an item goes at once, with those who ask in the same turn of
the loop, and what comes while every lane is busy goes together after that. So what one batch ended together, such as
the deliveries of one commit, goes on together.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True, eq=False)
class _Asked(Generic[ItemT, ResultT]):
    """Hold one who asks. He is woken with his result, or with a batch that he does for all who are in it."""

    item: ItemT
    woken: "asyncio.Future[list[_Asked[ItemT, ResultT]] | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    results: list[ResultT] = field(default_factory=list)


class Together(Generic[ItemT, ResultT]):
    """Hand items to `work` in batches of at most `most`, in as many `lanes` at a time.

    `work` returns a result for each item, in their order; what it raises is raised for each of its batch. One of those
    who wait does it for all; if he is cancelled, another one does it again for the rest.
    """

    def __init__(self, work: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]], most: int, lanes: int) -> None:
        self._work = work
        self._most = most
        self._free = lanes
        self._waiting: deque[_Asked[ItemT, ResultT]] = deque()

    async def __call__(self, item: ItemT) -> ResultT:
        """Return the result for one item."""
        asked: _Asked[ItemT, ResultT] = _Asked(item)
        self._waiting.append(asked)
        if self._free:
            self._free -= 1
            asyncio.get_running_loop().call_soon(self._hand_over)  # after all who were woken with us
        batch = await self._woken(asked)
        if batch is not None:
            await self._lead(batch)
        return asked.results[0]

    async def _woken(self, asked: _Asked[ItemT, ResultT]) -> list[_Asked[ItemT, ResultT]] | None:
        try:
            return await asked.woken
        except asyncio.CancelledError:
            if asked in self._waiting:
                self._waiting.remove(asked)
            elif _came_well(asked) and (batch := asked.woken.result()):
                self._give_back(batch[1:])
            raise

    async def _lead(self, batch: list[_Asked[ItemT, ResultT]]) -> None:
        try:
            results = await self._work([asked.item for asked in batch])
        except Exception as error:
            self._hand_over()
            _fail(batch[1:], error)
            raise
        except BaseException:
            self._give_back(batch[1:])
            raise
        self._hand_over()
        for asked, result in zip(batch, results, strict=True):
            asked.results.append(result)
            if not asked.woken.done():
                asked.woken.set_result(None)

    def _give_back(self, batch: Sequence[_Asked[ItemT, ResultT]]) -> None:
        self._waiting.extendleft(reversed(batch))
        self._hand_over()

    def _hand_over(self) -> None:
        """Give our lane to the next batch, or back."""
        batch: list[_Asked[ItemT, ResultT]] = []
        while self._waiting and len(batch) < self._most:
            asked = self._waiting.popleft()
            if not asked.woken.done():  # it is only when its task was cancelled a moment ago
                batch.append(asked)
        if batch:
            batch[0].woken.set_result(batch)
        else:
            self._free += 1


def _came_well(asked: "_Asked[ItemT, ResultT]") -> bool:
    # A failure that comes in the turn of a cancellation must not take its place: whoever catches it would go on.
    return asked.woken.done() and not asked.woken.cancelled() and asked.woken.exception() is None


def _fail(batch: "Sequence[_Asked[ItemT, ResultT]]", error: Exception) -> None:
    for asked in batch:
        if not asked.woken.done():
            asked.woken.set_exception(error)
