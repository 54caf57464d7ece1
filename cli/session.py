"""One command at work: its correlation, its deadline, and that it leaves nothing unhandled that it set off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from cli.failures import TimedOut
from cli.progress import NoBar, Shows, Watch
from cli.settings import Settings
from cli.settling import Settling, settle, settling_for
from cli.wiring import Parts, open_parts
from events.answers import Answer, read_answer
from events.quiet import pending
from schemas.event import Event
from twinlock.custody.port import USER, Asker, Initiator
from twinlock.errors import TwinlockError
from twinlock.store.unit import Cause, new_id

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
    settling: Settling
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
            await self.settling.dispatch(self.correlation)
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
        await self._settle(correlation or self.correlation, self.remaining, watch or NoBar())

    async def leave(self, seconds: float) -> None:
        """Have what is left handled, such as the alert of a failed read."""
        async with self.parts.store.read() as reader:
            left = await pending(reader, self.correlation, self.parts.clock.now())
        if self.wait and not left.quiet:
            await self._settle(self.correlation, seconds, NoBar())

    async def _settle(self, correlation: str, seconds: float, watch: Watch) -> None:
        await settle(self.settling, self.parts, correlation, seconds, watch)


@asynccontextmanager
async def open_session(settings: Settings, timeout: float, wait: bool, shows: Shows) -> AsyncIterator[Session]:
    """Open a home for one command, and leave nothing that it set off unhandled, also where it fails."""
    async with open_parts(settings) as parts:
        session = Session(parts, settling_for(parts), timeout, wait, shows)
        try:
            yield session
        except TimedOut:
            raise
        except Exception:
            with suppress(TimedOut):
                await session.leave(max(session.remaining, GRACE_SECONDS))
            raise
        await session.leave(max(session.remaining, GRACE_SECONDS))
