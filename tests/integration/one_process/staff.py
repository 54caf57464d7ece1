"""Every worker of an installation in this process, on either transport, with a clock that a test moves.

On the embedded transport one fleet runs them all. On RabbitMQ each has its own login, store, connections and relay, as
its own process would, and the broker's tiers are short: a retry ladder ends there within a second.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.settings import Settings
from cli.wiring.parts import Certifying, Parts, build
from events.answers import Answer, read_answer
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.handler import Handler
from events.ladder import Ladder
from events.relay import Relay
from schemas.names import TIK_CACHE_REFRESHER
from tests.integration.one_process.lines import Line
from twinlock.clock import ManualClock
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.port import Custodian, Recovering
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.work import jobs, requests, wake_slots
from twinlock.store.unit import Store
from workers.roster import handlers_of, upkeep_of
from workers.runtime import Fleet
from workers.tik_cache_refresher.hosting import keeping

SOURCE = "urn:twinlock:test"
PATIENCE = 150.0  # real seconds after which something that was waited for counts as stuck
_LOOK = 0.02  # real seconds between two looks; the clock moves on by a tick meanwhile
_TICK = 3.0

AnyHandler = Handler[Any, Any]
Happened = Callable[[], Awaitable[bool]]


@dataclass
class Staff:
    """Hold an installation; `settings` bound its steps, `watched` may put something before each handler.

    Without `open_recovering` nobody recovers anything, and without `open_certifying` nobody purges.
    """

    line: Line
    engine: AsyncEngine
    clock: ManualClock
    home: Path
    open_custodian: Callable[[Store], Custodian]
    settings: Mapping[str, Any]
    watched: Callable[[AnyHandler], AnyHandler] = lambda handler: handler
    open_recovering: Callable[[Store], Recovering] | None = None
    open_certifying: Callable[[Store], Certifying] | None = None
    _stores: dict[str, Store] = field(default_factory=dict)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Parts]:
        """Run every worker, with a custodian that remembers nothing of the last time, and stop them in the end."""
        custodian, stop = self.open_custodian(self.store(self.line.tells)), asyncio.Event()
        parts = {sender: self._parts(sender, custodian) for sender in self._senders()}
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            teams = [self._fleet(stack, parts[sender], names) for sender, names in self.line.teams]
            tasks = [group.create_task(team.run(stop)) for team in teams]
            if self.line.asks not in {sender for sender, _ in self.line.teams}:
                store = parts[self.line.asks].store
                transport, _ = self.line.transport(stack, store, ())
                tasks.append(group.create_task(_until(stop, Relay(store, transport, self.clock).run())))
            yield parts[self.line.asks]
            stop.set()
            while not all(task.done() for task in tasks):
                await self._moment()

    def store(self, sender: str) -> Store:
        """Return the database as one sender has it."""
        return self._stores.setdefault(sender, Store(self.engine, self.clock, SOURCE, sender))

    async def answer(self, request: str) -> Answer:
        """Wait until a request is answered."""
        await self.until(lambda: self._answered(request))
        found = await self._read(request)
        assert found is not None
        return found

    async def until(self, happened: Happened) -> None:
        """Move the clock on in small steps until something happened."""
        async with asyncio.timeout(PATIENCE):
            while not await happened():
                await self._moment()

    async def rows(self, query: Select[*tuple[Any, ...]]) -> Sequence[Row[Any]]:
        """Read rows, past the workers."""
        async with self.store(self.line.asks).read() as reader:
            return await reader.rows(query)

    async def parked(self) -> bool:
        """Tell whether no worker has anything to do before the clock moves on."""
        due = select(jobs.c.id).where(jobs.c.not_before <= self.clock.now())
        awake = select(wake_slots.c.slot).where(wake_slots.c.event_id.is_not(None))
        return not await self._any(due, awake, select(outbox.c.number))

    async def at_rest(self) -> bool:
        """Tell whether all that was asked is answered and done, and nothing is on its way."""
        unanswered = select(requests.c.id).where(requests.c.outcome.is_(None))
        left = await self._any(select(jobs.c.id), unanswered)
        return not left and await self.parked() and not await self.line.left(self.store(self.line.asks))

    async def _any(self, *queries: Select[*tuple[Any, ...]]) -> bool:
        async with self.store(self.line.asks).glance() as reader:
            return bool(await reader.scalar(select(or_(*(query.exists() for query in queries)))))

    async def _moment(self) -> None:
        self.clock.advance(_TICK)
        await asyncio.sleep(_LOOK)

    async def _answered(self, request: str) -> bool:
        found = await self._read(request)
        return found is not None and found.outcome is not None

    async def _read(self, request: str) -> Answer | None:
        async with self.store(self.line.asks).read() as reader:
            return await read_answer(reader, SOURCE, request)

    def _senders(self) -> set[str]:
        return {self.line.asks, self.line.tells, *(sender for sender, _ in self.line.teams)}

    def _parts(self, sender: str, custodian: Custodian) -> Parts:
        settings, store = Settings(home=self.home, **self.settings), self.store(sender)
        recovering = self.open_recovering and self.open_recovering(store)
        certifying = self.open_certifying and self.open_certifying(store)
        return build(settings, self.clock, store, custodian, recovering=recovering, certifying=certifying)

    def _fleet(self, stack: AsyncExitStack, parts: Parts, names: Sequence[str]) -> Fleet:
        place, workers = parts.workplace, parts.settings.workers
        handlers = [self.watched(handler) for handler in handlers_of(place, names)]
        transport, loops = self.line.transport(stack, parts.store, handlers)
        bounds = ConsumerSettings(concurrency=workers.concurrency, prefetch=2 * workers.concurrency)
        consumers = ConsumerRuntime(parts.store, transport, handlers, self.clock, Ladder(), bounds)
        periodic = [*upkeep_of(place, names)]
        if TIK_CACHE_REFRESHER in names and isinstance(parts.custodian, LocalCustodian):
            periodic += keeping(parts.custodian, workers)
        relay = Relay(parts.store, transport, self.clock)
        return Fleet(names, parts.store, relay, consumers, periodic, self.clock, workers, loops)


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        await stop.wait()
        task.cancel()
