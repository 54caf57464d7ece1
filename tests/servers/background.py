"""A proxy for tests that block: it runs on a loop of its own, in a thread."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from tests.servers.proxy import Proxy, proxied

_SECONDS = 30.0


@dataclass(frozen=True)
class Line:
    """Hold the way to one server."""

    proxy: Proxy
    loop: asyncio.AbstractEventLoop
    over: asyncio.Event

    def do(self, action: Callable[[Proxy], None]) -> None:
        """Have the proxy misbehave, or behave again."""

        async def done() -> None:
            action(self.proxy)

        asyncio.run_coroutine_threadsafe(done(), self.loop).result(_SECONDS)


@contextmanager
def line_to(*ports: int) -> Iterator[Line]:
    """Run a proxy to a local port, or before several, until the block ends."""
    started: Future[Line] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(ports, started)))
    thread.start()
    line = started.result(_SECONDS)
    try:
        yield line
    finally:
        line.loop.call_soon_threadsafe(line.over.set)
        thread.join()


async def _serve(ports: tuple[int, ...], started: "Future[Line]") -> None:
    over = asyncio.Event()
    async with proxied(*ports) as proxy:
        started.set_result(Line(proxy, asyncio.get_running_loop(), over))
        await over.wait()
