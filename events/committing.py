"""Committing what was prepared, with its inbox row, and together with what else is ready at that moment (law 11).

A batch is one transaction. Whatever makes it fail, every plan of it is then committed alone, so that the failure of one
is never another's. The inbox tells what a batch has done whose commit was cut.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from events.handler import Handler, Received
from events.inbox import Entry, admit, admit_all, handled
from events.joined import JoinedIncoming
from events.transport import Incoming
from schemas.event import Event
from twinlock.store.unit import Store, Unit
from twinlock.together import Together

log = logging.getLogger(__name__)

_MOST = 50  # plans of a transaction: it holds the locks of all of them
_LANES = 2
_SECONDS = 5.0  # then somebody's lock holds up all of a batch, and alone only one of them waits for it


@dataclass(frozen=True, slots=True)
class Run:
    """Hold what one attempt is about."""

    incoming: Incoming
    joined: JoinedIncoming | None  # the same, where it settles in our transaction
    handler: Handler[Any, Any]
    event: Event
    received: Received
    entry: Entry


@dataclass(frozen=True, slots=True)
class Prepared:
    """Hold what a handler has prepared."""

    run: Run
    plan: Any

    @property
    def order(self) -> tuple[str, ...]:
        """Return the place in a batch: what is about one entity locks it in one order everywhere."""
        entry = self.run.entry
        return self.run.received.envelope.subject or "", entry.publisher, entry.source, entry.id


class Committing:
    """Commit the plans of one consumer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._together: Together[Prepared, bool] = Together(self._batch, _MOST, _LANES)

    async def __call__(self, prepared: Prepared) -> None:
        """Commit a plan unless its event was handled before, and return when it is durable; raise its own failure."""
        # A joined transport settles in the same transaction: there is one database, with one writer.
        if prepared.run.joined is not None or not await self._together(prepared):
            await self._alone(prepared)

    async def _alone(self, prepared: Prepared) -> None:
        run = prepared.run
        async with self._store.begin(run.received.cause) as unit:
            if await admit(unit, run.entry):
                await run.handler.commit(unit, prepared.plan)
            if run.joined is not None:
                await run.joined.ack_within(unit)

    async def _batch(self, batch: Sequence[Prepared]) -> Sequence[bool]:
        """Return for each plan whether it is committed; one that came alone fails alone."""
        if len(batch) == 1:
            await self._alone(batch[0])
            return [True]
        done = await self._in_one(sorted(batch, key=lambda prepared: prepared.order))
        return [done] * len(batch)

    async def _in_one(self, batch: Sequence[Prepared]) -> bool:
        try:
            async with asyncio.timeout(_SECONDS), self._store.begin(batch[0].run.received.cause) as unit:
                await _commit_all(unit, batch)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told to whom it belongs when he is alone
            log.info("%d commits in one failed with %s; each goes alone", len(batch), type(error).__name__)
            return False
        return True


async def _commit_all(unit: Unit, batch: Sequence[Prepared]) -> None:
    fresh = await admit_all(unit, [prepared.run.entry for prepared in batch])
    for prepared in batch:
        run = prepared.run
        if run.entry.key in fresh:
            fresh.remove(run.entry.key)  # a second copy in the same batch is a repetition
            unit.cause = run.received.cause
            await run.handler.commit(unit, prepared.plan)
        else:
            await handled(unit, run.entry)
