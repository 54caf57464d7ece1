"""Start, drain and stop workers in one process: consumers, relay, and what has to be looked at from time to time."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from events.consumer import ConsumerRuntime
from events.relay import Relay
from events.waiting import unstrayed
from twinlock.keys.ports import Clock
from twinlock.store.unit import Store
from workers import wakeups
from workers.roster import ROSTER, Periodic
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

Loop = Callable[[], Coroutine[Any, Any, None]]  # goes on until it is cancelled, or drained
Drain = Callable[[float], Coroutine[Any, Any, None]]  # ends what was begun, in at most so many seconds


class LoopEnded(RuntimeError):
    """Say that something ended that goes on for ever: the process goes down with it, and is started again."""

    def __init__(self) -> None:
        super().__init__("a part of the worker that goes on for ever has ended")


class Fleet:
    """Run workers in this process until told to stop; `loops` are what runs beside them for as long.

    `drains` let those of the loops that answer somebody finish what they have begun.
    """

    def __init__(
        self,
        names: Sequence[str],
        store: Store,
        relay: Relay,
        consumers: ConsumerRuntime,
        periodic: Sequence[Periodic],
        clock: Clock,
        settings: WorkerSettings,
        loops: Sequence[Loop] = (),
        drains: Sequence[Drain] = (),
    ) -> None:
        self._names = names
        self._store = store
        self._relay = relay
        self._consumers = consumers
        self._periodic = periodic
        self._clock = clock
        self._settings = settings
        self._loops = loops
        self._drains = (consumers.drain, *drains)
        self._prepared = False
        self._stopping = False

    async def prepare(self) -> None:
        """Make what has to be there before anybody works; `run` does so where nobody has."""
        for worker in self._names:
            if ROSTER[worker].has_jobs:
                await wakeups.prepare_slots(self._store, worker, self._settings.concurrency)
        self._prepared = True

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then take nothing more, finish what runs, and publish what it left."""
        if not self._prepared:
            await self.prepare()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consumers.run())
            background = [group.create_task(self._for_ever(loop())) for loop in (self._relay.run, *self._loops)]
            background += [group.create_task(self._for_ever(self._repeat(periodic))) for periodic in self._periodic]
            await stop.wait()
            self._stopping = True
            await self._drain()
            for task in background:
                task.cancel()
        await self._last_pass()

    async def _drain(self) -> None:
        async with asyncio.TaskGroup() as group:
            for drain in self._drains:
                group.create_task(drain(self._settings.drain_seconds))

    async def _last_pass(self) -> None:
        try:
            await self._relay.pass_once()
        except Exception as error:  # noqa: BLE001  # it stays in the outbox, for whoever comes next
            log.warning("what was left could not be published: %s", type(error).__name__)

    async def _repeat(self, periodic: Periodic) -> None:
        while True:
            try:
                await periodic.action()
            except Exception as error:  # noqa: BLE001  # the next round tries again; nothing may end the fleet
                log.warning("%s failed with %s; it is tried again", periodic.name, type(error).__name__)
            await self._clock.sleep(periodic.seconds)

    async def _for_ever(self, loop: Coroutine[Any, Any, None]) -> None:
        # A task group sees nothing wrong in a task that returns, or that a dying connection has cancelled.
        await unstrayed(loop)
        if not self._stopping:
            raise LoopEnded
