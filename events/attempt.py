"""One attempt at one delivery: parse, look into the inbox, prepare, commit with the inbox row, acknowledge (law 11)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from events.handler import Handler, Received, Rejected, TryLater
from events.inbox import Conflict, Entry, admit, handled
from events.joined import JoinedIncoming
from events.transport import Incoming, Message
from events.verdict import DeadlinePassed, NoHandler
from events.waiting import Jitter, randomly, unstrayed
from schemas.envelope import Envelope, parse
from schemas.event import Event, Malformed, MessageRefused
from twinlock.crashpoints import CrashPoint, reach
from twinlock.keys.ports import Clock
from twinlock.store.unit import StaleRead, Store

log = logging.getLogger(__name__)

T = TypeVar("T")
Shielded = Callable[[Coroutine[Any, Any, T]], Awaitable[T]]

# A second try in the same process can't change any of these.
_SETTLED = (MessageRefused, Conflict, NoHandler, Rejected, TryLater, DeadlinePassed)


@dataclass(frozen=True, slots=True)
class AttemptSettings:
    """Hold the bounds of one attempt, in seconds and times."""

    deadline: float = 600.0  # over all tries and restarts; well below a broker's own acknowledgement timeout
    tries: int = 2  # in this process, before the ladder
    restarts: int = 5  # after a stale read, at once
    pause: float = 0.5  # the longest pause between two tries


class Attempt:
    """Handle deliveries of one consumer; what must not be cut goes through `shielded`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        handlers: Mapping[str, Handler[Any, Any]],
        shielded: Shielded[Exception | None],
        settings: AttemptSettings,
        jitter: Jitter = randomly,
    ) -> None:
        self._store = store
        self._clock = clock
        self._handlers = handlers
        self._shielded = shielded
        self._settings = settings
        self._jitter = jitter

    async def __call__(self, consumer: str, incoming: Incoming) -> None:
        """Handle a delivery and acknowledge it, or raise what stood in the way."""
        envelope, event = read(incoming.message)
        handler = self._handlers.get(envelope.type)
        if handler is None:
            raise NoHandler
        run = _Run(consumer, incoming, handler, event, Received(envelope, incoming.message.publisher))
        if await self._repeated(run):
            log.debug("handled before")
            return await incoming.ack()
        deadline = asyncio.get_running_loop().time() + self._settings.deadline
        for _ in range(self._settings.tries - 1):
            try:
                return await self._through(run, deadline)
            except _SETTLED:
                raise
            except Exception as error:  # noqa: BLE001  # a handler may fail with anything; the ladder is behind it
                log.warning("handling failed with %s at %s; trying again", type(error).__name__, origin(error))
            await self._clock.sleep(self._settings.pause * self._jitter())
        return await self._through(run, deadline)

    async def _repeated(self, run: "_Run") -> bool:
        if isinstance(run.incoming, JoinedIncoming):
            return False
        async with self._store.read() as reader:
            return await handled(reader, run.entry)

    async def _through(self, run: "_Run", deadline: float) -> None:
        for _ in range(self._settings.restarts):
            try:
                return await self._once(run, deadline)
            except StaleRead:
                log.debug("a row moved on while the event was handled; starting over")
        return await self._once(run, deadline)

    async def _once(self, run: "_Run", deadline: float) -> None:
        plan = await _in_time(run.handler.prepare(run.event, run.received), deadline)
        if (error := await self._shielded(self._finish(run, plan))) is not None:
            raise error

    async def _finish(self, run: "_Run", plan: Any) -> Exception | None:
        # Returns its failure: raised in a task of its own, it would take every other commit down.
        try:
            await self._commit(run, plan)
        except Exception as error:  # noqa: BLE001  # handed to the attempt that waits for it
            return error
        reach(CrashPoint.BEFORE_ACK)
        try:
            await _acknowledge(run.incoming)
        except Exception as error:  # noqa: BLE001  # the effect is durable; the inbox absorbs the repeat
            log.info("the acknowledgement failed with %s; the event will come again", type(error).__name__)
        reach(CrashPoint.AFTER_ACK)
        return None

    async def _commit(self, run: "_Run", plan: Any) -> None:
        async with self._store.begin(run.received.cause) as unit:
            if await admit(unit, run.entry):
                await run.handler.commit(unit, plan)
            if isinstance(run.incoming, JoinedIncoming):
                await run.incoming.ack_within(unit)


class _Run:
    """Hold what one attempt is about."""

    def __init__(
        self, consumer: str, incoming: Incoming, handler: Handler[Any, Any], event: Event, received: Received
    ) -> None:
        self.incoming = incoming
        self.handler = handler
        self.event = event
        self.received = received
        self.entry = Entry.of(consumer, incoming.message)


def read(message: Message) -> tuple[Envelope, Event]:
    """Parse a message; refuse one whose label is not its content's: inbox and routes go by the label."""
    envelope, event = parse(message.body)
    for name in ("source", "id", "type"):
        if getattr(envelope, name) != getattr(message, name):
            raise Malformed(f"the {name} that it travelled under is not the envelope's")
    return envelope, event


async def _acknowledge(incoming: Incoming) -> None:
    if isinstance(incoming, JoinedIncoming):
        incoming.release()
    else:
        await incoming.ack()


async def _in_time(preparing: Coroutine[Any, Any, T], deadline: float) -> T:
    try:
        async with asyncio.timeout_at(deadline) as limit:
            return await unstrayed(preparing)
    except TimeoutError:
        if limit.expired():
            raise DeadlinePassed from None
        raise


def origin(error: Exception) -> str:
    """Say where an exception arose, as module and line: its message may hold anything and is not for logs."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}" if trace else "?"
