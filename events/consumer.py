"""The consumer runtime: takes deliveries, handles them in bounded parallel, settles them, and stops without a cut.

Preparing may be cancelled at any moment. Commits and settlements are tasks of an outer group that a stop waits for.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from events.attempt import Attempt, AttemptSettings, origin
from events.authority.admission import Admission
from events.context import handling
from events.handler import Handler
from events.ladder import Ladder
from events.observing import Observer, Unobserved
from events.transport import Incoming, Transport
from events.verdict import GiveUp, Reject, Verdict, judge
from events.waiting import Jitter, randomly, unstrayed
from twinlock.keys.ports import Clock
from twinlock.store.unit import Store

log = logging.getLogger(__name__)

T = TypeVar("T")
DONE, UNSETTLED = "done", "unsettled"
_STORE_PAUSE = 1.0  # after a settlement failed: the store or the broker is in trouble


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """Hold how much one consumer does at a time; what is prefetched beyond `concurrency` waits in memory."""

    concurrency: int = 4
    prefetch: int = 8
    attempt: AttemptSettings = field(default_factory=AttemptSettings)


class ConsumerRuntime:
    """Run the handlers of any number of consumers on one transport."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        handlers: Sequence[Handler[Any, Any]],
        clock: Clock,
        ladder: Ladder,
        settings: ConsumerSettings | None = None,
        jitter: Jitter = randomly,
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._transport = transport
        self._clock = clock
        self._ladder = ladder
        self._settings = settings or ConsumerSettings()
        self._jitter = jitter
        self._handlers = _by_consumer(handlers)
        self._observer = observer or Unobserved()
        self._admission = Admission(store)
        self._running: set[asyncio.Task[None]] = set()
        self._finishing: set[asyncio.Task[Any]] = set()
        self.taken = 0  # deliveries so far
        self._draining = False
        self._stopped = asyncio.Event()
        self._stopped.set()

    @property
    def in_hand(self) -> int:
        """Return how many deliveries are not settled yet."""
        return len(self._running)

    async def run(self) -> None:
        """Take and handle until drained or cancelled; once only. Whatever else ends it is a fault and is raised."""
        self._stopped.clear()
        try:
            async with asyncio.TaskGroup() as commits:
                try:
                    await self._consume_all(commits)
                finally:
                    while self._finishing:
                        await asyncio.wait(self._finishing)
        finally:
            self._stopped.set()

    async def drain(self, grace: float) -> None:
        """Take nothing more, wait up to `grace` seconds for what runs, then cut what still prepares."""
        self._draining = True
        await self._transport.drain()
        try:
            async with asyncio.timeout(grace):
                await self._stopped.wait()
        except TimeoutError:
            log.warning("%d deliveries are cut after the grace time; they come again", len(self._running))
            for task in self._running:
                task.cancel()
            await self._stopped.wait()

    async def _consume_all(self, commits: asyncio.TaskGroup) -> None:
        async with asyncio.TaskGroup() as group:
            for consumer in self._handlers:
                group.create_task(unstrayed(self._consume(consumer, commits)))

    async def _consume(self, consumer: str, commits: asyncio.TaskGroup) -> None:
        attempt = self._attempt(consumer, commits)
        slots = asyncio.Semaphore(self._settings.concurrency)
        async with asyncio.TaskGroup() as group:
            async for incoming in self._transport.deliveries(consumer, self._settings.prefetch):
                self.taken += 1
                await slots.acquire()
                if self._draining:
                    break
                task = group.create_task(self._handle(attempt, consumer, incoming, commits, slots))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        if not self._draining:
            # Alive but not consuming is the worst way to fail: end loudly, a supervisor starts us again.
            raise RuntimeError(f"the transport stopped delivering to {consumer}")

    def _attempt(self, consumer: str, commits: asyncio.TaskGroup) -> Attempt:
        async def shielded(work: Coroutine[Any, Any, Exception | None]) -> Exception | None:
            return await self._uncut(commits, work)

        return Attempt(
            self._store,
            self._clock,
            self._handlers[consumer],
            self._admission,
            shielded,
            self._settings.attempt,
            self._jitter,
        )

    async def _uncut(self, commits: asyncio.TaskGroup, work: Coroutine[Any, Any, T]) -> T:
        task = commits.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return await asyncio.shield(task)

    async def _handle(
        self, attempt: Attempt, consumer: str, incoming: Incoming, commits: asyncio.TaskGroup, slots: asyncio.Semaphore
    ) -> None:
        start, how = self._clock.monotonic(), "cut"
        try:
            with handling(consumer, incoming.message, incoming.attempts):
                try:
                    with self._observer.handling(consumer, incoming.message):
                        await attempt(consumer, incoming)
                    how = DONE
                except Exception as error:  # noqa: BLE001  # every failure is judged, and none ends the consumer
                    how = await self._uncut(commits, self._settle(incoming, error))
                    if how == UNSETTLED:
                        await self._clock.sleep(_STORE_PAUSE * self._jitter())
        finally:
            slots.release()
            known = incoming.message.type in self._handlers[consumer]  # a stranger may name any number of types
            event_type = incoming.message.type if known else "other"
            self._observer.handled(consumer, event_type, how, self._clock.monotonic() - start)

    async def _settle(self, incoming: Incoming, error: Exception) -> str:
        verdict = judge(error, incoming.attempts, self._ladder)
        try:
            return await _carry_out(incoming, verdict, error)
        except Exception as trouble:  # noqa: BLE001  # the delivery comes again by itself
            log.warning("a delivery can't be settled now: %s", type(trouble).__name__)
            return UNSETTLED


async def _carry_out(incoming: Incoming, verdict: Verdict, error: Exception) -> str:
    name = type(error).__name__
    if isinstance(verdict, GiveUp):
        log.error("given up after %s at %s: %s", name, origin(error), verdict.reason)
        await incoming.dead_letter(verdict.reason)
        return "given-up"
    if isinstance(verdict, Reject):
        # Whoever sends rubbish decides how often: that is not for the logs that people read.
        log.info("rejected after %s: %s", name, verdict.reason)
        await incoming.reject(verdict.reason)
        return "rejected"
    log.warning("handling failed with %s at %s; again in %.0f s", name, origin(error), verdict.delay)
    await incoming.retry(verdict.delay, verdict.reason)
    return "put-off"


def _by_consumer(handlers: Sequence[Handler[Any, Any]]) -> dict[str, dict[str, Handler[Any, Any]]]:
    found: dict[str, dict[str, Handler[Any, Any]]] = defaultdict(dict)
    for handler in handlers:
        if found[handler.consumer].setdefault(handler.handles.type, handler) is not handler:
            raise ValueError(f"{handler.consumer} has two handlers for {handler.handles.type}")
    return dict(found)
