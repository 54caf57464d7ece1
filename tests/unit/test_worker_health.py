"""What a worker says of itself over HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from twinlock.errors import TwinlockError
from workers import health
from workers.health import Check, Health

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def says(what: str) -> Check:
    async def check() -> str:
        return what

    return check


async def hangs() -> str:
    await asyncio.Event().wait()
    return ""


async def fails() -> str:
    raise RuntimeError("a password")


@asynccontextmanager
async def served(subject: Health) -> AsyncIterator[str]:
    port = free_port()
    async with asyncio.timeout(30), subject.served(HOST, port):
        yield f"http://{HOST}:{port}"


async def get(url: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.json()


async def test_ready() -> None:
    """A worker whose every check is good lives and is ready."""
    async with served(Health({"database": says(""), "broker": says("")})) as url:
        assert (200, {"live": True}) == await get(f"{url}/livez")
        assert (200, {"ready": True, "checks": {"database": "ok", "broker": "ok"}}) == await get(f"{url}/readyz")


@pytest.mark.parametrize(
    ("check", "said"), [(says("not connected"), "not connected"), (hangs, "no answer"), (fails, "RuntimeError")]
)
async def test_not_ready(monkeypatch: pytest.MonkeyPatch, check: Check, said: str) -> None:
    """A check that complains, hangs or fails makes the worker unready, and it lives all the same."""
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
    async with served(Health({"database": says(""), "broker": check})) as url:
        status, document = await get(f"{url}/readyz")

        assert (503, False, {"database": "ok", "broker": said}) == (status, document["ready"], document["checks"])
        assert (200, {"live": True}) == await get(f"{url}/livez")


async def test_stopping() -> None:
    """A worker that is about to stop is no longer ready, so that nobody relies on it."""
    subject = Health({"database": says("")})
    subject.stopping = True
    async with served(subject) as url:
        status, document = await get(f"{url}/readyz")

    assert (503, "it is stopping") == (status, document["checks"]["service"])


async def test_address_taken() -> None:
    """An address that somebody else listens on is refused with its name."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TwinlockError, match=f"{HOST}:{port} can't be listened on: address already in use"):
            async with Health({}).served(HOST, port):
                pass
