"""The carrier in memory, for tests and trials: what the bus does between processes, within one."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from twinlock.custody.errors import CustodianSilent
from twinlock.custody.remote.ports import Lane

T = TypeVar("T")


class MemoryCall:
    """Hold one request, and where its replies go."""

    def __init__(self, body: bytes, replies: "asyncio.Queue[bytes]") -> None:
        self.body = body
        self.sender: str | None = None
        self._replies = replies

    async def settle(self, reply: bytes | None) -> None:
        """Send the reply, if there is one."""
        if reply is not None:
            self._replies.put_nowait(reply)


class MemoryCalls:
    """Hand out the requests of one lane."""

    def __init__(self, queue: "asyncio.Queue[MemoryCall | None]") -> None:
        self._queue = queue

    def __aiter__(self) -> AsyncIterator[MemoryCall]:
        return self

    async def __anext__(self) -> MemoryCall:
        call = await self._queue.get()
        if call is None:
            raise StopAsyncIteration
        return call

    async def stop(self) -> None:
        """Hand out no more than what waits already."""
        self._queue.put_nowait(None)


class MemoryCarrier:
    """Be the `Requester` of any number of callers, and hand their requests out by lane."""

    def __init__(self) -> None:
        self._queues: defaultdict[Lane, asyncio.Queue[MemoryCall | None]] = defaultdict(asyncio.Queue)

    def calls(self, lane: Lane) -> MemoryCalls:
        """Return the requests of a lane."""
        return MemoryCalls(self._queues[lane])

    async def ask(self, request: bytes, lane: Lane, deadline: float, judge: Callable[[bytes], T | None]) -> T:
        """Queue the request and wait for the first reply that counts."""
        replies: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues[lane].put_nowait(MemoryCall(request, replies))
        try:
            async with asyncio.timeout(deadline):
                while True:
                    judged = judge(await replies.get())
                    if judged is not None:
                        return judged
        except TimeoutError:
            raise CustodianSilent from None
