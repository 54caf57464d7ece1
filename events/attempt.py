"""One attempt at one delivery: parse, see who sent it, look into the inbox, prepare, commit with the inbox row,
acknowledge (laws 11 and 13).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from events.authority.admission import Admission, Refused
from events.committing import Committing, Prepared, Run
from events.context import about
from events.handler import Handler, Received, Rejected, TryLater
from events.inbox import Conflict, Entry, handled, handled_among
from events.joined import JoinedIncoming
from events.transport import Incoming, Message
from events.verdict import UNWANTED, DeadlinePassed, NoHandler, told
from events.waiting import Jitter, randomly, unstrayed
from schemas.envelope import Envelope, parse
from schemas.event import Event, Malformed, MessageRefused
from twinlock.crashpoints import CrashPoint, reach
from twinlock.keys.ports import Clock
from twinlock.store.unit import StaleRead, Store
from twinlock.together import Together

log = logging.getLogger(__name__)

T = TypeVar("T")
Shielded = Callable[[Coroutine[Any, Any, T]], Awaitable[T]]

_LOOKUPS = 100

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
        admission: Admission,
        shielded: Shielded[Exception | None],
        settings: AttemptSettings,
        jitter: Jitter = randomly,
    ) -> None:
        self._store = store
        self._clock = clock
        self._handlers = handlers
        self._admission = admission
        self._shielded = shielded
        self._settings = settings
        self._jitter = jitter
        self._commit = Committing(store)
        self._known: Together[Entry, bool] = Together(self._look_up, _LOOKUPS, 1)

    async def __call__(self, consumer: str, incoming: Incoming) -> None:
        """Handle a delivery and acknowledge it, or raise what stood in the way."""
        run = await self._let_in(consumer, incoming)
        if run is None or await self._repeated(run):
            log.debug("handled before, or refused")
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

    async def _let_in(self, consumer: str, incoming: Incoming) -> Run | None:
        try:
            return await self._admitted(consumer, incoming)
        except UNWANTED as error:
            if self._admission.is_outsider(incoming.message.publisher):
                raise Refused(told(error)) from error  # a dead letter for each would let a stranger fill our table
            raise

    async def _admitted(self, consumer: str, incoming: Incoming) -> Run | None:
        envelope, event = read(incoming.message)
        self._admission.check_producer(incoming.message)
        handler = self._handlers.get(envelope.type)
        if handler is None:
            raise NoHandler
        about(tenant=getattr(event, "tenant", None), policy=getattr(event, "policy", None))
        received = Received(envelope, incoming.message.publisher)
        message = await self._admission.admit(incoming.message, event, received)
        if message is None:
            return None
        joined = incoming if isinstance(incoming, JoinedIncoming) else None
        return Run(
            incoming,
            joined,
            handler,
            event,
            replace(received, publisher=message.publisher),
            Entry.of(consumer, message),
        )

    async def _repeated(self, run: Run) -> bool:
        if run.joined is not None:
            return False
        if not await self._known(run.entry):
            return False
        async with self._store.read() as reader:
            return await handled(reader, run.entry)

    async def _look_up(self, entries: Sequence[Entry]) -> Sequence[bool]:
        async with self._store.glance() as reader:
            return await handled_among(reader, entries)

    async def _through(self, run: Run, deadline: float) -> None:
        for _ in range(self._settings.restarts):
            try:
                return await self._once(run, deadline)
            except StaleRead:
                log.debug("a row moved on while the event was handled; starting over")
        return await self._once(run, deadline)

    async def _once(self, run: Run, deadline: float) -> None:
        plan = await _in_time(run.handler.prepare(run.event, run.received), deadline)
        if (error := await self._shielded(self._finish(run, plan))) is not None:
            raise error

    async def _finish(self, run: Run, plan: Any) -> Exception | None:
        # Returns its failure: raised in a task of its own, it would take every other commit down.
        try:
            await self._commit(Prepared(run, plan))
        except Exception as error:  # noqa: BLE001  # handed to the attempt that waits for it
            return error
        reach(CrashPoint.BEFORE_ACK)
        try:
            await _acknowledge(run)
        except Exception as error:  # noqa: BLE001  # the effect is durable; the inbox absorbs the repeat
            log.info("the acknowledgement failed with %s; the event will come again", type(error).__name__)
        reach(CrashPoint.AFTER_ACK)
        return None


def read(message: Message) -> tuple[Envelope, Event]:
    """Parse a message; refuse one whose label is not its content's: inbox and routes go by the label."""
    envelope, event = message.parsed or parse(message.body)
    for name in ("source", "id", "type"):
        if getattr(envelope, name) != getattr(message, name):
            raise Malformed(f"the {name} that it travelled under is not the envelope's")
    return envelope, event


async def _acknowledge(run: Run) -> None:
    if run.joined is not None:
        run.joined.release()
    else:
        await run.incoming.ack()


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
