"""Waiting: for an event on an injected clock, by how much pauses vary, and cancellations that nobody asked for."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twinlock.keys.ports import Clock

T = TypeVar("T")
Jitter = Callable[[], float]  # in [0, 1)
randomly: Jitter = secrets.SystemRandom().random


async def set_or_elapsed(event: asyncio.Event, clock: Clock, seconds: float) -> bool:
    """Return with the event set: true if somebody did it, false if that much time has passed.

    No task outlives the call. A caller clears the event before it looks for work, so that it misses nothing.
    """
    if event.is_set():
        return True
    async with asyncio.TaskGroup() as group:
        timer = group.create_task(_ring(event, clock, clock.monotonic() + seconds))
        await event.wait()
        somebody = not timer.done()
        timer.cancel()
    return somebody


async def _ring(event: asyncio.Event, clock: Clock, until: float) -> None:
    # Not so many seconds from here on: the task may have been kept waiting for its start.
    await clock.sleep(max(0.0, until - clock.monotonic()))
    event.set()


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what the work returns, or none as soon as `stop` is set; no task outlives the call."""
    async with asyncio.TaskGroup() as group:
        task, stopped = group.create_task(work), group.create_task(stop.wait())
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        task.cancel()
    return None if task.cancelled() else task.result()


class StrayCancellation(Exception):
    """Say that something below was cancelled though nobody cancelled the task: a connection died under it."""


async def unstrayed(work: Coroutine[Any, Any, T]) -> T:
    """Let a real cancellation pass, and raise `StrayCancellation` for one that would end the task unnoticed."""
    try:
        return await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise StrayCancellation from None
