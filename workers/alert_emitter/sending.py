"""Send one webhook its deliveries: each on its own, the oldest first, until the subscriber takes it or it is dead.

A subscriber has a sender and a queue to itself: one that is slow or gone holds up nobody else. A delivery is claimed by
being put off for longer than its try may take, so that a process that ends in the middle leaves it to the next one; it
may come twice, under the same id.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import Row, delete, or_, select, update

from events.dead_letters import bury, named
from events.ladder import Ladder
from twinlock.store.tables.bus import deliveries
from twinlock.store.unit import Cause, Store, Unit
from workers.alert_emitter.posting import message_of
from workers.alert_emitter.webhooks import Webhook, consumer

log = logging.getLogger(__name__)

REST_SECONDS = 5.0  # nothing else is tried with a subscriber that has just failed
_BATCH = 20
_MARGIN = 30.0  # of a claim, beyond the deadlines of its tries

_row = deliveries.c


class Undelivered(Exception):
    """Say why a subscriber did not take a delivery; free of secrets, as it goes with a dead letter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Poster(Protocol):
    """Bring a signed body to a subscriber."""

    async def __call__(self, hook: Webhook, delivery: str, at: int, body: bytes) -> None:
        """Return when it was taken, within the webhook's deadline, or raise `Undelivered`."""
        ...


class Sender:
    """Send to one webhook."""

    def __init__(self, store: Store, name: str, hook: Webhook, post: Poster, ladder: Ladder | None = None) -> None:
        self.name = name
        self._store = store
        self._consumer = consumer(name)
        self._hook = hook
        self._post = post
        self._ladder = ladder or Ladder()
        self._busy = asyncio.Lock()

    async def pass_once(self) -> None:
        """Send what is due, until nothing is or the subscriber fails."""
        async with self._busy:
            while rows := await self._claim():
                for place, row in enumerate(rows):
                    if not await self._send(row, rows[place + 1 :]):
                        return

    async def drain(self, grace: float) -> None:
        """Finish what was begun and send what has not been tried, within a try's time: the rest waits in its rows."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(grace, self._hook.deadline)):
                await self.pass_once()

    async def _claim(self) -> Sequence[Row[Any]]:
        own = (_row.consumer == self._consumer, _row.not_before <= self._store.clock.now())
        due = select(deliveries).where(*own).order_by(_row.not_before, _row.number).limit(_BATCH)
        async with self._store.read() as reader:
            if await reader.row(due) is None:
                return ()
        async with self._store.begin(Cause("webhook")) as unit:
            rows = await unit.rows(due.with_for_update(skip_locked=True))
            until = unit.clock.now() + timedelta(seconds=_BATCH * self._hook.deadline + _MARGIN)
            mine = _row.number.in_([row.number for row in rows])
            await unit.execute(update(deliveries).where(mine).values(not_before=until))
        return rows

    async def _send(self, row: Row[Any], others: Sequence[Row[Any]]) -> bool:
        try:
            await self._post(self._hook, row.id, int(self._store.clock.now().timestamp()), row.body)
        except Undelivered as failure:
            log.warning("webhook %s did not take alert %s: %s", self.name, row.id, failure.reason)
            await self._failed(row, others, failure.reason)
            return False
        async with self._store.begin(_cause(row)) as unit:
            await unit.execute(delete(deliveries).where(_row.number == row.number))
        return True

    async def _failed(self, row: Row[Any], others: Sequence[Row[Any]], reason: str) -> None:
        delay = self._ladder.delay(row.attempts)
        async with self._store.begin(_cause(row)) as unit:
            await self._rest(unit, [other.number for other in others])
            mine = _row.number == row.number
            if delay is None:
                if (await unit.execute(delete(deliveries).where(mine))).rowcount:
                    await bury(unit, self._consumer, message_of(row), row.attempts + 1, reason)
                return
            later = unit.clock.now() + timedelta(seconds=delay)
            await unit.execute(update(deliveries).where(mine).values(attempts=row.attempts + 1, not_before=later))

    async def _rest(self, unit: Unit, claimed: Sequence[int]) -> None:
        until = unit.clock.now() + timedelta(seconds=REST_SECONDS)
        soon = or_(_row.not_before < until, _row.number.in_(claimed))
        await unit.execute(update(deliveries).where(_row.consumer == self._consumer, soon).values(not_before=until))


def _cause(row: Row[Any]) -> Cause:
    return Cause(named(row.correlation), named(row.id))


def senders(store: Store, webhooks: Mapping[str, Webhook], post: Poster) -> list[Sender]:
    """Return a sender for each webhook."""
    return [Sender(store, name, hook, post) for name, hook in webhooks.items()]
