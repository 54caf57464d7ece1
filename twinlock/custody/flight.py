"""Single flight: callers that want the same thing at the same time make one vault call."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _LeaderGone(Exception):
    """Tell followers that the first caller gave up before there was an answer."""


class SingleFlight(Generic[T]):
    """Let the first caller do the work, in its own task, and the others wait for its answer.

    A leader that is cancelled or runs out of its own time strands nobody: the followers start over, and one of them
    leads. Any other exception is everybody's.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Future[T]] = {}

    async def do(self, name: Hashable, work: Callable[[], Awaitable[T]], patience: float) -> tuple[T, bool]:
        """Return the answer, and whether this caller led; a follower waits `patience` seconds, then TimeoutError."""
        until = asyncio.get_running_loop().time() + patience
        while True:
            flight = self._flights.get(name)
            if flight is None:
                return await self._lead(name, work), True
            try:
                async with asyncio.timeout_at(until):
                    # A follower that gives up must not cancel what the others wait for.
                    return await asyncio.shield(flight), False
            except _LeaderGone:
                continue

    async def _lead(self, name: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        flight: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._flights[name] = flight
        try:
            answer = await work()
        except (asyncio.CancelledError, TimeoutError):
            _fail(flight, _LeaderGone())
            raise
        except BaseException as fault:
            _fail(flight, fault)
            raise
        else:
            flight.set_result(answer)
            return answer
        finally:
            del self._flights[name]


def _fail(flight: asyncio.Future[T], fault: BaseException) -> None:
    flight.set_exception(fault)
    flight.exception()  # without followers nobody retrieves it, and asyncio would complain
