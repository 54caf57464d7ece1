"""Say over HTTP whether a worker lives and whether it can work, and what it measures of itself.

`/livez` and `/readyz` are for whoever supervises it, `/metrics` for Prometheus.

Living is answering: a loop that hangs does not, and a part that ends takes the process down with it. A worker is ready
when every check says so in time.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from twinlock.errors import TwinlockError
from workers.metrics.page import Page

log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[str]]  # what is wrong, or nothing
CHECK_SECONDS = 2.0


class Health:
    """Answer for one process; `stopping` takes it out of service before it stops."""

    def __init__(self, checks: Mapping[str, Check], page: Page | None = None) -> None:
        self.checks = checks
        self.page = page or Page()
        self.stopping = False

    async def wrong(self) -> dict[str, str]:
        """Return every check with what is wrong, or with nothing."""
        found = {name: await _judge(name, check) for name, check in self.checks.items()}
        return {**found, "service": "it is stopping"} if self.stopping else found

    @asynccontextmanager
    async def served(self, host: str, port: int) -> AsyncIterator[None]:
        """Listen until the block ends; raise a `TwinlockError` where the address can't be had."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await _listen(runner, host, port)
            yield
        finally:
            await runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        wrong = await self.wrong()
        ready = not any(wrong.values())
        checks = {name: said or "ok" for name, said in wrong.items()}
        return web.json_response({"ready": ready, "checks": checks}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        for name, said in (await self.wrong()).items():
            self.page.metrics.ready(name, not said)
        body, content_type = await self.page.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


def unready(what: str) -> Check:
    """Return a check of what is not there yet."""

    async def check() -> str:
        return what

    return check


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise TwinlockError(
            f"{host}:{port} can't be listened on: {_reason(error)}",
            hint="choose another address with --health HOST:PORT",
        ) from None


def _reason(error: OSError) -> str:
    # The event loop writes the address into the message; the system's own words are behind the number.
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "there is no such host"


async def _judge(name: str, check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is not ready; the message may hold anything
        log.debug("%s is not ready: %s", name, type(error).__name__)
        return "no answer" if isinstance(error, TimeoutError) else type(error).__name__
