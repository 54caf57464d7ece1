"""A TCP proxy that misbehaves: it cuts, delays, half-opens, and breaks off after so many bytes."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK = 65536


class Proxy:
    """Pass bytes between whoever connects and one server. Settings hold for old connections and new ones."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.delay = 0.0  # seconds that every chunk is late
        self.refuses = False  # new connections are reset at once
        self.budget: int | None = None  # bytes in both directions until everything is cut, in the middle of a frame
        self.accepted = 0
        self.recorded: list[bytearray] = []  # all that passed, one entry for each direction of each connection
        self._target = port
        self._flows = asyncio.Event()
        self._flows.set()
        self._open: set[StreamWriter] = set()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._open):
            writer.transport.abort()

    def half_open(self) -> None:
        """Swallow everything from now on: connections stay open, and nothing passes."""
        self._flows.clear()

    def heal(self) -> None:
        """Let everything pass again."""
        self.delay, self.refuses, self.budget = 0.0, False, None
        self._flows.set()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Carry one connection until one of its ends is gone."""
        self.accepted += 1
        if self.refuses:
            return writer.transport.abort()
        upstream, server = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, server}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server))
                group.create_task(self._pump(upstream, writer))
        except* ConnectionError:
            pass
        finally:
            self._open -= {writer, server}
            writer.transport.abort()
            server.transport.abort()

    async def _pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        passed = bytearray()
        self.recorded.append(passed)
        while data := await reader.read(_CHUNK):
            passed += data
            await self._flows.wait()
            await asyncio.sleep(self.delay)
            writer.write(data[: self._allowed(len(data))])
            await writer.drain()
            if self.budget == 0:
                self.cut()
        raise ConnectionResetError

    def _allowed(self, count: int) -> int:
        if self.budget is None:
            return count
        allowed = min(count, self.budget)
        self.budget -= allowed
        return allowed


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Proxy]:
    """Run a proxy to a local port."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.heal()
        proxy.cut()
        await server.wait_closed()
