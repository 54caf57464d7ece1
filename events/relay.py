"""The relay: what a commit left in the outbox goes to the transport, and then from the outbox.

Rows are found by being there, never by "a number above the last": a database may commit numbers out of order. No order
is promised, and several relays may share an outbox.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from events import leasing
from events.joined import JoinedTransport
from events.observing import Observer, Unobserved
from events.transport import Message, Transport
from events.waiting import Jitter, randomly, set_or_elapsed
from twinlock.crashpoints import CrashPoint, reach
from twinlock.keys.ports import Clock
from twinlock.store.tables.bus import outbox
from twinlock.store.unit import Cause, Reader, Store, Unit, new_id

log = logging.getLogger(__name__)

_MARK = Cause("dispatch")  # the relay's own transactions: no event leaves under this name
_CARRIED = ("publisher", "source", "id", "type", "correlation", "body")


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Hold the relay's batch size and times, in seconds."""

    batch: int = 100
    poll: float = 0.2  # the net: another process may have written to the outbox
    first_pause: float = 0.2
    longest_pause: float = 5.0
    longest_put_off: float = 30.0  # of one row that nobody takes
    lease: float = 60.0  # longer than a transport takes to publish a batch, or to give it up


class Relay:
    """Move the outbox of one store to a transport: what its sender wrote, or on a joined transport everything."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        clock: Clock,
        settings: RelaySettings | None = None,
        jitter: Jitter = randomly,
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._transport = transport
        self._clock = clock
        self._settings = settings or RelaySettings()
        self._jitter = jitter
        self._observer = observer or Unobserved()
        self._owner = new_id()
        self._held: frozenset[int] = frozenset()
        self._sweeping = asyncio.Lock()  # two sweeps of one relay would take each other's leases for their own

    async def pass_once(self) -> int:
        """Offer every due row of the outbox once, by number, and return how many were taken and deleted."""
        if not await self._anything():
            return 0
        taken, _left = await self._sweep()
        return taken

    async def let_go(self) -> None:
        """Give back what a pass that was cut still holds, so that the next relay need not wait for the lease's end."""
        try:
            async with self._store.begin(_MARK) as unit:
                await leasing.free(unit, self._owner, self._held)
        except Exception as error:  # noqa: BLE001  # the lease lapses by itself, and how a process ends is told already
            log.warning("what is held of the outbox can't be given back: %s", type(error).__name__)

    async def run(self) -> None:
        """Empty the outbox whenever something is in it, until cancelled; trouble slows down and never ends it."""
        failures, told = 0, False
        while True:
            self._store.outgoing.clear()
            if await self._swept(told):
                failures = 0
                told = await set_or_elapsed(self._store.outgoing, self._clock, self._settings.poll)
            else:
                failures += 1
                await self._clock.sleep(self._pause(failures))

    async def _swept(self, told: bool) -> bool:
        try:
            # A sweep may begin with a write transaction: not five times a second for nothing.
            _taken, left = await self._sweep() if told or await self._anything() else (0, 0)
        except Exception as error:  # noqa: BLE001  # whatever it is, the outbox is still there and is offered again
            log.warning("the outbox can't be dispatched now: %s", type(error).__name__)
            return False
        if left:
            log.warning("the transport did not take %d events; they stay in the outbox", left)
        return True

    async def _anything(self) -> bool:
        async with self._store.read() as reader:
            if isinstance(self._transport, JoinedTransport):
                return await reader.row(select(outbox.c.number).order_by(outbox.c.number).limit(1)) is not None
            return await leasing.anything_due(reader, self._store.sender, self._owner, self._store.clock.now())

    def _pause(self, failures: int) -> float:
        return self._grown(failures, self._settings.longest_pause)

    def _grown(self, failures: int, longest: float) -> float:
        grown = self._settings.first_pause * 2.0 ** min(failures - 1, 16)
        return min(grown, longest) * (0.5 + self._jitter() / 2)

    async def _sweep(self) -> tuple[int, int]:
        # What is not taken is passed over, so that it holds up nobody behind it.
        taken = left = after = 0
        async with self._sweeping:
            while True:
                rows, count = await self._dispatch(after)
                taken, left = taken + count, left + len(rows) - count
                if len(rows) < self._settings.batch:
                    return taken, left
                after = rows[-1].number

    async def _dispatch(self, after: int) -> tuple[Sequence[Row[Any]], int]:
        if isinstance(self._transport, JoinedTransport):
            return await self._dispatch_joined(self._transport, after)
        async with self._store.begin(_MARK) as unit:
            rows = await leasing.lease(unit, self._owner, self._settings.lease, self._settings.batch, after)
            self._held = frozenset(row.number for row in rows)
        if not rows:
            return rows, 0
        reach(CrashPoint.BEFORE_DISPATCH)
        taken = await self._publish([_message(row) for row in rows])
        reach(CrashPoint.AFTER_DISPATCH)
        async with self._store.begin(_MARK) as unit:
            await self._settle(unit, rows, taken)
        reach(CrashPoint.AFTER_MARK)
        self._observer.published(taken, len(rows) - len(taken))
        return rows, len(taken)

    async def _publish(self, messages: Sequence[Message]) -> Sequence[Message]:
        try:
            return await self._transport.publish(messages)
        except Exception:
            async with self._store.begin(_MARK) as unit:
                await leasing.free(unit, self._owner, self._held)
            raise

    async def _settle(self, unit: Unit, rows: Sequence[Row[Any]], taken: Sequence[Message]) -> None:
        found = _numbers(rows, taken)
        await leasing.remove(unit, found)
        longest = self._settings.longest_put_off
        delays = {row.number: self._grown(row.attempts + 1, longest) for row in rows if row.number not in found}
        await leasing.put_off(unit, self._owner, delays)

    async def _dispatch_joined(self, transport: JoinedTransport, after: int) -> tuple[Sequence[Row[Any]], int]:
        async with self._store.begin(_MARK) as unit:
            rows = await self._batch(unit, after)
            messages = [_message(row) for row in rows]
            reach(CrashPoint.BEFORE_DISPATCH)
            announce = await transport.publish_within(unit, messages)
            reach(CrashPoint.AFTER_DISPATCH)
            await leasing.remove(unit, _numbers(rows, messages))
        reach(CrashPoint.AFTER_MARK)
        announce()
        self._observer.published(messages, 0)
        return rows, len(rows)

    async def _batch(self, reader: Reader, after: int) -> Sequence[Row[Any]]:
        query = select(outbox).where(outbox.c.number > after).order_by(outbox.c.number).limit(self._settings.batch)
        return await reader.rows(query)


def _message(row: Row[Any]) -> Message:
    return Message(**{name: row._mapping[name] for name in _CARRIED})


def _numbers(rows: Sequence[Row[Any]], taken: Sequence[Message]) -> set[int]:
    numbers = {(row.source, row.id): row.number for row in rows}
    return {numbers[message.source, message.id] for message in taken}
