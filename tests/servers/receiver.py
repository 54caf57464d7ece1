"""A subscriber of webhooks as tests need one: it keeps what is posted, and answers as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Posted:
    """Hold one request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Hold what came, and the answers that are due; after them everything is taken."""

    url: str = ""
    posted: list[Posted] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Keep a request and answer it."""
        self.posted.append(Posted(request.path, dict(request.headers), await request.read()))
        self.arrived.set()
        return await (self.answers.pop(0) if self.answers else status(204))(request)


def status(code: int, **headers: str) -> Answer:
    """Answer with a status."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers)

    return answer


async def silence(_request: web.Request) -> web.StreamResponse:
    """Never answer, for as long as the other side listens."""
    await asyncio.Event().wait()
    raise AssertionError


async def flood(request: web.Request) -> web.StreamResponse:
    """Answer well, and never come to an end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(65536))


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a subscriber on a port of its own."""
    found = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.take)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    found.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}/alerts"
    try:
        yield found
    finally:
        await runner.cleanup()
