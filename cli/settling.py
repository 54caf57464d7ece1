"""Wait until everything that a correlation set off has been handled, by working or by letting work.

An embedded home: this process runs the workers itself, unless another one of the home does; then it waits for that
one, and takes over when it goes. A fleet works by itself: this process publishes what it wrote and
waits.
"""

import asyncio
from contextlib import suppress
from typing import NamedTuple, Protocol

from sqlalchemy import func, select

from cli.failures import TimedOut
from cli.progress import Watch
from cli.wiring.embedded import embedded_fleet
from cli.wiring.parts import Carrying, Parts
from events.home_lock import POLL_SECONDS, HomeLock
from events.quiet import Pending, pending
from events.sole_worker import sole_worker
from twinlock.errors import TwinlockError
from twinlock.store.tables.bus import outbox

QUIET_SECONDS = 0.05


class Outlook(NamedTuple):
    """Hold what keeps something from being done, where that can be seen, and how it goes on."""

    obstacle: str
    hint: str


class Settling(Protocol):
    """Bring what a command wrote to whoever handles it."""

    async def dispatch(self, correlation: str) -> None:
        """Send off what a correlation wrote in this process, for a command that does not wait."""
        ...

    async def settle(self, correlation: str, deadline: float, watch: Watch) -> None:
        """Return when a correlation is quiet, or at the deadline (on the event loop's clock)."""
        ...

    async def outlook(self, correlation: str) -> Outlook:
        """Say why a correlation is not quiet yet."""
        ...


class EmbeddedSettling:
    """Settle in a home that needs no server."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def dispatch(self, correlation: str) -> None:
        """Do nothing: the next command that waits, or a worker run, goes on."""

    async def settle(self, correlation: str, deadline: float, watch: Watch) -> None:
        """Work, or wait for whoever works."""
        with HomeLock(self._parts.settings.home) as lock:
            while not await is_quiet(self._parts, correlation, watch):
                if asyncio.get_running_loop().time() >= deadline:
                    return
                if lock.try_acquire():
                    await self._work(correlation, deadline, watch)
                else:
                    await self._parts.clock.sleep(POLL_SECONDS)

    async def outlook(self, correlation: str) -> Outlook:
        """Say who goes on with it."""
        return Outlook(
            "", "nothing is lost: it goes on with the next command that waits, or with: twinlock worker run --all"
        )

    async def _work(self, correlation: str, deadline: float, watch: Watch) -> None:
        stop = asyncio.Event()
        with suppress(TimeoutError):
            async with sole_worker(self._parts.store), asyncio.timeout_at(deadline), asyncio.TaskGroup() as group:
                group.create_task(embedded_fleet(self._parts).run(stop))
                while not await is_quiet(self._parts, correlation, watch):
                    await self._parts.clock.sleep(QUIET_SECONDS)
                stop.set()


class FleetSettling:
    """Settle where workers are processes of their own, behind a broker."""

    def __init__(self, parts: Parts, carrying: Carrying) -> None:
        self._parts = parts
        self._carrying = carrying

    async def dispatch(self, correlation: str) -> None:
        """Publish, and be sure of it; raise where the broker does not take it."""
        await self._carrying.relay.pass_once()
        if await self._unsent(correlation):
            obstacle, hint = await self.outlook(correlation)
            raise TwinlockError(f"not published yet: {obstacle or 'another command is about to do it'}", hint=hint)

    async def settle(self, correlation: str, deadline: float, watch: Watch) -> None:
        """Publish, as often as it takes, and watch how far the fleet is."""
        while not await is_quiet(self._parts, correlation, watch):
            if asyncio.get_running_loop().time() >= deadline:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._carrying.relay.pass_once()
            await self._parts.clock.sleep(POLL_SECONDS)

    async def outlook(self, correlation: str) -> Outlook:
        """Say what the broker said to it, or what is to be seen there."""
        from cli.presence import obstacle  # the broker's library, for a fleet alone

        unsent = await self._unsent(correlation)
        trouble = (self._carrying.trouble() if unsent else None) or await obstacle(self._parts.settings)
        later = "it leaves with the next command that asks for something" if unsent else "it goes on by itself then"
        if trouble is None:
            return Outlook("", "nothing is lost: it goes on as soon as the workers can; see: twinlock status")
        return Outlook(trouble.detail, f"{trouble.hint or 'see: twinlock status'}; nothing is lost: {later}")

    async def _unsent(self, correlation: str) -> int:
        own = (outbox.c.publisher == self._parts.store.sender, outbox.c.correlation == correlation)
        async with self._parts.store.read() as reader:
            return int(await reader.scalar(select(func.count()).select_from(outbox).where(*own)))


def settling_for(parts: Parts) -> Settling:
    """Return how commands wait in this installation."""
    return EmbeddedSettling(parts) if parts.carrying is None else FleetSettling(parts, parts.carrying)


async def settle(settling: Settling, parts: Parts, correlation: str, seconds: float, watch: Watch) -> None:
    """Wait until a correlation is quiet; raise `TimedOut`."""
    deadline = asyncio.get_running_loop().time() + seconds
    with watch:
        await settling.settle(correlation, deadline, watch)
        if asyncio.get_running_loop().time() < deadline:
            return  # it was quiet; what comes later, such as an alert that somebody makes of an event, is not awaited
        left = await _left(parts, correlation)
    if not left.quiet:
        obstacle, hint = await settling.outlook(correlation)
        raise TimedOut("; ".join(filter(None, (f"not done after {seconds:.0f} s: {_open(left)}", obstacle))), hint=hint)


async def is_quiet(parts: Parts, correlation: str, watch: Watch) -> bool:
    """Tell whether nothing is left of a correlation, and show how far it is."""
    async with parts.store.read() as reader:
        left = await pending(reader, correlation, parts.clock.now())
        await watch.update(reader, correlation)
    return left.quiet


async def _left(parts: Parts, correlation: str) -> Pending:
    async with parts.store.read() as reader:
        return await pending(reader, correlation, parts.clock.now())


def _open(left: Pending) -> str:
    events, parts = left.outbox + left.deliveries, []
    if left.jobs:
        parts.append(f"{left.jobs} {'job' if left.jobs == 1 else 'jobs'}")
    if events:
        parts.append(f"{events} {'event' if events == 1 else 'events'}")
    if left.requests and not parts:  # otherwise one of those
        parts.append(f"{left.requests} {'request' if left.requests == 1 else 'requests'}")
    return " and ".join(parts or ["nothing"]) + " open"
