"""Serving calls in memory: bounds of each lane, failures, and a carrier on which somebody answers first."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from twinlock.custody.errors import CustodianSilent
from twinlock.custody.remote.memory import MemoryCarrier
from twinlock.custody.remote.ports import Lane
from workers.settings import WorkerSettings
from workers.tik_cache_refresher.hosting import Hosting

SETTINGS = WorkerSettings(user_calls=3, background_calls=2)


@asynccontextmanager
async def serving(serve: Callable[[bytes, str | None], Awaitable[bytes | None]]) -> AsyncIterator[MemoryCarrier]:
    """Serve both lanes of a carrier until the block ends."""
    carrier = MemoryCarrier()
    hosting = Hosting(serve, {lane: carrier.calls(lane) for lane in Lane}, SETTINGS)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(hosting.run())
        yield carrier
        task.cancel()


def _text(reply: bytes) -> str | None:
    return reply.decode() if reply.startswith(b"ok") else None


async def test_answers() -> None:
    """Every call gets its own answer."""

    async def _serve(body: bytes, _sender: str | None) -> bytes:
        return b"ok " + body

    async with serving(_serve) as carrier, asyncio.TaskGroup() as group:
        calls = [group.create_task(carrier.ask(b"%d" % n, Lane.USER, 60, _text)) for n in range(20)]

    assert [f"ok {n}" for n in range(20)] == [call.result() for call in calls]


@pytest.mark.parametrize(("lane", "places"), [(Lane.USER, 3), (Lane.BACKGROUND, 2)])
async def test_bounds(lane: Lane, places: int) -> None:
    """A lane works on as many calls at a time as it has places, and its fullness is no other lane's."""
    running, most, release = 0, 0, asyncio.Event()

    async def _serve(body: bytes, _sender: str | None) -> bytes:
        nonlocal running, most
        if body == b"quick":
            return b"ok"
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        return b"ok"

    other = Lane.USER if lane is Lane.BACKGROUND else Lane.BACKGROUND
    async with serving(_serve) as carrier, asyncio.TaskGroup() as group:
        calls = [group.create_task(carrier.ask(b"slow", lane, 60, _text)) for _ in range(10)]
        for _ in range(5):
            assert "ok" == await carrier.ask(b"quick", other, 60, _text)
        release.set()

    assert places == most
    assert ["ok"] * 10 == [call.result() for call in calls]


async def test_goes_on() -> None:
    """A call that fails, or has no answer, is silent, and the next one is served."""

    async def _serve(body: bytes, _sender: str | None) -> bytes | None:
        if body == b"fault":
            raise RuntimeError("secret")
        return None if body == b"nothing" else b"ok"

    async with serving(_serve) as carrier:
        for body in (b"fault", b"nothing"):
            with pytest.raises(CustodianSilent):
                await carrier.ask(body, Lane.USER, 0.05, _text)

        assert "ok" == await carrier.ask(b"fine", Lane.USER, 60, _text)


async def test_forged_reply_is_waited_past() -> None:
    """A reply that does not count leaves the call waiting for one that does."""
    carrier = MemoryCarrier()

    async def _answer() -> None:
        call = await anext(aiter(carrier.calls(Lane.USER)))
        await call.settle(b"forged")
        await call.settle(b"ok at last")

    async with asyncio.TaskGroup() as group:
        group.create_task(_answer())
        asked = group.create_task(carrier.ask(b"x", Lane.USER, 60, _text))

    assert "ok at last" == asked.result()


async def test_drained() -> None:
    """Told to stop, it answers what it has begun, takes nothing more, and ends without a fault."""
    begun, release, served = asyncio.Event(), asyncio.Event(), list[bytes]()

    async def _serve(body: bytes, _sender: str | None) -> bytes:
        served.append(body)
        begun.set()
        await release.wait()
        return b"ok " + body

    carrier = MemoryCarrier()
    hosting = Hosting(_serve, {lane: carrier.calls(lane) for lane in Lane}, SETTINGS)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(hosting.run())
        asked = group.create_task(carrier.ask(b"begun", Lane.USER, 60, _text))
        await begun.wait()
        draining = group.create_task(hosting.drain(60))
        await asyncio.sleep(0)
        late = group.create_task(_unanswered(carrier))
        await late
        assert not draining.done()
        release.set()

    assert "ok begun" == asked.result()
    assert [b"begun"] == served
    assert running.done()


async def _unanswered(carrier: MemoryCarrier) -> None:
    with pytest.raises(CustodianSilent):
        await carrier.ask(b"late", Lane.USER, 0.05, _text)


async def test_cut_after_the_grace_time() -> None:
    """A call that does not end in time holds up nobody who stops the custodian."""
    begun = asyncio.Event()

    async def _serve(_body: bytes, _sender: str | None) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b"never"

    carrier = MemoryCarrier()
    hosting = Hosting(_serve, {lane: carrier.calls(lane) for lane in Lane}, SETTINGS)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(hosting.run())
        group.create_task(_unanswered(carrier))
        await begun.wait()
        await hosting.drain(0.01)
        running.cancel()

    assert running.cancelled()
