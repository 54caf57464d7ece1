"""A TCP proxy that misbehaves: it cuts, delays, half-opens, strands, breaks off after so many bytes, or answers itself.

Before several servers it balances: each connection goes to the next one that takes it.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

_CHUNK = 65536


@dataclass(eq=False)
class _Passage:
    """Hold one connection: its two sides, how many of them are still there, and whether it is lost on the way."""

    writers: tuple[StreamWriter, StreamWriter]
    ends: int = 2
    lost: bool = False


class Proxy:
    """Pass bytes between whoever connects and a server. Settings hold for old connections and new ones."""

    def __init__(self, *ports: int) -> None:
        self.port = 0
        self.delay = 0.0  # seconds that every chunk is late
        self.late: Callable[[bytes], float] | None = None  # the seconds that one chunk is late on top
        self.refuses = False  # new connections are reset at once
        self.budget: int | None = None  # bytes in both directions until everything is cut, in the middle of a frame
        self.accepted = 0
        self.passing: Callable[[bytes], None] | None = None  # is shown every chunk before it goes on
        self.says: bytes | None = None  # what each request is answered with in place of the server's answer
        self.records = True
        self.recorded: list[bytearray] = []  # all that passed, one entry for each direction of each connection
        self._targets = deque(ports)
        self._flows = asyncio.Event()
        self._flows.set()
        self._passages: set[_Passage] = set()
        self._serving = 0
        self._changed = asyncio.Condition()

    @property
    def stranded(self) -> int:
        """Return how many ends of lost connections have not found out yet."""
        return sum(passage.ends for passage in list(self._passages) if passage.lost)

    def cut(self) -> None:
        """Reset every connection."""
        for passage in list(self._passages):
            for writer in passage.writers:
                writer.transport.abort()

    @property
    def carried(self) -> int:
        """Count the connections that are open."""
        return self._serving

    async def settled(self) -> None:
        """Wait until no connection is open."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._serving)

    def half_open(self) -> None:
        """Swallow everything from now on: connections stay open, and nothing passes."""
        self._flows.clear()

    def strand(self) -> None:
        """Lose the connections that there are, as a router does that forgets them: neither end is ever told."""
        for passage in self._passages:
            passage.lost = True

    def heal(self) -> None:
        """Let everything pass again, but for what is lost."""
        self.delay, self.late, self.refuses, self.budget, self.says = 0.0, None, False, None, None
        self._flows.set()

    async def end(self) -> None:
        """Reset every connection, and wait until none is left."""
        self.heal()
        while self._passages:
            self.cut()
            await asyncio.sleep(0.01)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Carry one connection until one of its ends is gone, or both of a lost one."""
        self.accepted += 1
        if self.refuses:
            return writer.transport.abort()
        self._serving += 1
        try:
            await self._carry(reader, writer)
        finally:
            self._serving -= 1
            async with self._changed:
                self._changed.notify_all()

    async def _carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        found = await self._reached()
        if found is None:
            return writer.transport.abort()
        upstream, server = found
        passage = _Passage((writer, server))
        self._passages.add(passage)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(passage, reader, server))
                group.create_task(self._pump(passage, upstream, writer))
        except* ConnectionError:
            pass
        finally:
            self._passages.remove(passage)
            writer.transport.abort()
            server.transport.abort()

    async def _reached(self) -> tuple[StreamReader, StreamWriter] | None:
        for _ in range(len(self._targets)):
            self._targets.rotate(-1)
            try:
                return await asyncio.open_connection("127.0.0.1", self._targets[-1])
            except OSError:
                continue
        return None

    async def _pump(self, passage: _Passage, reader: StreamReader, writer: StreamWriter) -> None:
        passed = bytearray()
        self.recorded.append(passed)
        while data := await _read(reader):
            if self.records:
                passed += data
            await self._flows.wait()
            await asyncio.sleep(self.delay + (self.late(data) if self.late else 0.0))
            if passage.lost:
                continue
            if self.says is not None and writer is passage.writers[1]:
                passage.writers[0].write(self.says)
                continue
            if self.passing is not None:
                self.passing(data)
            writer.write(data[: self._allowed(len(data))])
            await writer.drain()
            if self.budget == 0:
                self.cut()
        passage.ends -= 1
        if not passage.lost:
            raise ConnectionResetError

    def _allowed(self, count: int) -> int:
        if self.budget is None:
            return count
        allowed = min(count, self.budget)
        self.budget -= allowed
        return allowed


async def _read(reader: StreamReader) -> bytes:
    try:
        return await reader.read(_CHUNK)
    except ConnectionError:
        return b""


@asynccontextmanager
async def proxied(*ports: int) -> AsyncIterator[Proxy]:
    """Run a proxy to a local port, or before several."""
    proxy = Proxy(*ports)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
