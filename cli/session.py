"""One command at work: its correlation, its deadline, and how it waits for everything that it set off.

With the embedded transport a command that waits runs the workers itself, unless another process of the home does; then
it waits for that one, and takes over when it goes (design section 7).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from cli.failures import TimedOut
from cli.progress import NoBar, Shows, Watch
from cli.settings import Settings
from cli.wiring import Parts, open_parts
from events.answers import Answer, read_answer
from events.home_lock import POLL_SECONDS, HomeLock
from events.quiet import Pending, pending
from schemas.event import Event
from twinlock.custody.port import USER, Asker, Initiator
from twinlock.errors import TwinlockError
from twinlock.store.unit import Cause, new_id

QUIET_SECONDS = 0.05
GRACE_SECONDS = 5.0  # for what a command left behind when its time was up: an alert has to get out


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold a request's id and, once somebody waited for it, its answer."""

    id: str
    answer: Answer | None = None


@dataclass(slots=True)
class Session:
    """Hold what a command works with."""

    parts: Parts
    timeout: float
    wait: bool = True
    shows: Shows = Shows.NOTHING
    correlation: str = field(default_factory=new_id)
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def cause(self) -> Cause:
        """Return the cause of everything that this command sets off."""
        return Cause(self.correlation)

    @property
    def remaining(self) -> float:
        """Return the seconds that are left of the timeout."""
        return max(0.0, self.timeout - (asyncio.get_running_loop().time() - self.started))

    def asker(self, initiator: Initiator = USER) -> Asker:
        """Ask the custodian on somebody's behalf, until the timeout."""
        return Asker(initiator, self.cause, self.remaining)

    async def ask(self, event: Event, watch: Watch | None = None) -> Asked:
        """Publish a request; unless `--no-wait`, return when it and everything that it set off has been handled."""
        request = await self.parts.publisher.request(event, self.correlation)
        if not self.wait:
            return Asked(request)
        await self.settle(watch=watch)
        return Asked(request, await self.answer(self.parts.store.source, request))

    async def answer(self, source: str, request: str) -> Answer:
        """Return the answer to a request that has been handled."""
        async with self.parts.store.read() as reader:
            found = await read_answer(reader, source, request)
        if found is None or found.outcome is None:
            raise TwinlockError(f"request {request} was given up", hint="see why: twinlock dlq list")
        return found

    async def settle(self, correlation: str | None = None, watch: Watch | None = None) -> None:
        """Return when everything that a correlation (default: this command's) set off has been handled."""
        await settle(self.parts, correlation or self.correlation, self.remaining, watch or NoBar())

    async def leave(self, seconds: float) -> None:
        """Have what is left handled, such as the alert of a failed read."""
        async with self.parts.store.read() as reader:
            left = await pending(reader, self.correlation, self.parts.clock.now())
        if self.wait and not left.quiet:
            await settle(self.parts, self.correlation, seconds, NoBar())


@asynccontextmanager
async def open_session(settings: Settings, timeout: float, wait: bool, shows: Shows) -> AsyncIterator[Session]:
    """Open a home for one command, and leave nothing that it set off unhandled, also where it fails."""
    async with open_parts(settings) as parts:
        session = Session(parts, timeout, wait, shows)
        try:
            yield session
        except TimedOut:
            raise
        except Exception:
            with suppress(TimedOut):
                await session.leave(max(session.remaining, GRACE_SECONDS))
            raise
        await session.leave(max(session.remaining, GRACE_SECONDS))


async def settle(parts: Parts, correlation: str, seconds: float, watch: Watch) -> None:
    """Wait until a correlation is quiet, by working or by letting work; raise `TimedOut`."""
    deadline = asyncio.get_running_loop().time() + seconds
    with HomeLock(parts.settings.home) as lock, watch:
        while not await _is_quiet(parts, correlation, watch):
            if asyncio.get_running_loop().time() >= deadline:
                raise await _timed_out(parts, correlation, seconds)
            if lock.try_acquire():
                await _work(parts, correlation, deadline, watch)
            else:
                await parts.clock.sleep(POLL_SECONDS)


async def _work(parts: Parts, correlation: str, deadline: float, watch: Watch) -> None:
    stop = asyncio.Event()
    with suppress(TimeoutError):
        async with asyncio.timeout_at(deadline), asyncio.TaskGroup() as group:
            group.create_task(parts.fleet().run(stop))
            while not await _is_quiet(parts, correlation, watch):
                await parts.clock.sleep(QUIET_SECONDS)
            stop.set()


async def _is_quiet(parts: Parts, correlation: str, watch: Watch) -> bool:
    async with parts.store.read() as reader:
        left = await pending(reader, correlation, parts.clock.now())
        await watch.update(reader, correlation)
    return left.quiet


async def _timed_out(parts: Parts, correlation: str, seconds: float) -> TimedOut:
    async with parts.store.read() as reader:
        left = await pending(reader, correlation, parts.clock.now())
    return TimedOut(
        f"not done after {seconds:.0f} s: {_open(left)}",
        hint="nothing is lost: it goes on with the next command that waits, or with: twinlock worker run --all",
    )


def _open(left: Pending) -> str:
    events, parts = left.outbox + left.deliveries, []
    if left.jobs:
        parts.append(f"{left.jobs} {'job' if left.jobs == 1 else 'jobs'}")
    if events:
        parts.append(f"{events} {'event' if events == 1 else 'events'}")
    return " and ".join(parts or ["nothing"]) + " open"
