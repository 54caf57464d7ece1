"""The unit of work: state, inbox and outbox in one short transaction, or nothing at all."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Executable, insert
from sqlalchemy.engine import CursorResult, Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction
from uuid_utils import uuid7

from schemas.envelope import Envelope, enclose, serialise
from schemas.event import Event
from twinlock.crashpoints import CrashPoint, reach
from twinlock.keys.ports import Clock
from twinlock.store.clock import DatabaseClock
from twinlock.store.engine import WRITE
from twinlock.store.postgres import GLANCING, READING, lost_a_conflict
from twinlock.store.tables.bus import outbox

LOCAL_PUBLISHER = "local"


class StaleRead(Exception):
    """Say that a row moved on between the read and the commit, or that others stood in the way: start over."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Name what set a change off: the correlation spans everything, the causation is the last event before it."""

    correlation: str
    causation: str | None = None


def new_id() -> str:
    """Return a fresh identifier that sorts by time (UUIDv7, RFC 9562), as 32 hex digits."""
    return uuid7().hex


@dataclass(slots=True)
class Reader:
    """Read one consistent state of the database."""

    connection: AsyncConnection

    async def rows(self, statement: Executable) -> Sequence[Row[Any]]:
        """Return all rows."""
        return (await self.connection.execute(statement)).all()

    async def row(self, statement: Executable) -> Row[Any] | None:
        """Return the first row, or none."""
        return (await self.connection.execute(statement)).first()

    async def scalar(self, statement: Executable) -> Any:
        """Return the first column of the first row, or none."""
        return await self.connection.scalar(statement)


@dataclass(slots=True)
class Unit(Reader):
    """Change state and say so, in one transaction. Events leave only if the change is committed."""

    clock: Clock
    cause: Cause
    source: str
    sender: str = LOCAL_PUBLISHER
    emitted: list[Envelope] = field(default_factory=list)
    queued: dict[Executable, list[Mapping[str, Any]]] = field(default_factory=dict)
    written: int = 0  # events in the outbox by now, committed with the rest or not at all

    async def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a change; with `parameters`, once for each of them."""
        result = await self.connection.execute(statement, parameters)
        assert isinstance(result, CursorResult)  # noqa: S101  # narrows the type; Core statements return nothing else
        return result

    def emit(self, event: Event, *, event_id: str | None = None) -> str:
        """Queue an event for the outbox and return its id; `event_id` makes a repeat find the same event."""
        envelope = enclose(
            event,
            event_id=event_id or new_id(),
            source=self.source,
            time=self.clock.now(),
            correlation=self.cause.correlation,
            causation=self.cause.causation,
        )
        self.emitted.append(envelope)
        return envelope.id

    def queue(self, statement: Executable, rows: Iterable[Mapping[str, Any]]) -> None:
        """Queue a change that nobody in this unit looks at: at its end, one trip does it for all rows of a statement.

        A statement is the same only if it is the same object.
        """
        self.queued.setdefault(statement, []).extend(rows)

    async def flush(self) -> int:
        """Make the queued changes, write the queued events into the outbox, and return how many events there were."""
        for statement, rows in self.queued.items():
            if rows:
                await self.execute(statement, rows)
        self.queued.clear()
        count = len(self.emitted)
        if count:
            await self.execute(insert(outbox), [self._outgoing(envelope) for envelope in self.emitted])
            self.emitted.clear()
            self.written += count
        return count

    def _outgoing(self, envelope: Envelope) -> dict[str, Any]:
        return {
            "source": envelope.source,
            "id": envelope.id,
            "publisher": self.sender,
            "type": envelope.type,
            "correlation": envelope.correlation,
            "body": serialise(envelope),
            "created_at": envelope.time,
        }


class Store:
    """Hand out readers and units of work on one database.

    `source` names this installation's part in its events; `sender` is who publishes them: the broker's login of this
    process, or `local` where there is no broker.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock, source: str, sender: str = LOCAL_PUBLISHER) -> None:
        self.engine = engine
        self.clock = clock
        self.source = source
        self.sender = sender
        self.outgoing = asyncio.Event()  # set when a commit of this process left events in the outbox
        self._embedded = engine.dialect.name == "sqlite"
        # SQLite has one writer: waiting here is fair and costs nothing, waiting in its busy handler polls.
        self._writer = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Reader]:
        """Open a read-only view; it never waits for a writer."""
        async with self.engine.connect() as plain:
            await self._keep_time(plain)
            connection = plain if self._embedded else await plain.execution_options(**READING)
            yield Reader(connection)  # begun by its first statement, and ended with the connection's return

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[Reader]:
        """Open a view for one statement, at a third of the round trips; a second one might see another state."""
        async with self.engine.connect() as plain:
            await self._keep_time(plain)
            yield Reader(plain if self._embedded else await plain.execution_options(**GLANCING))

    @asynccontextmanager
    async def begin(self, cause: Cause) -> AsyncIterator[Unit]:
        """Open a unit of work; it commits at the end of the block and rolls back on any exception.

        Raise `StaleRead` where the database gave it up for the sake of others, as it does to end a deadlock.
        """
        if self._embedded:
            async with self._writer, self._unit(cause) as unit:
                yield unit
        else:
            async with _started_over(), self._unit(cause) as unit:
                yield unit

    async def _keep_time(self, connection: AsyncConnection) -> None:
        clock = self.clock
        if isinstance(clock, DatabaseClock):
            await clock.keep(connection)
            await connection.rollback()  # a reading of the time is not what the reader's one state begins with

    @asynccontextmanager
    async def _unit(self, cause: Cause) -> AsyncIterator[Unit]:
        async with self.engine.connect() as plain:
            await self._keep_time(plain)
            connection = await plain.execution_options(**{WRITE: True})
            async with connection.begin() as transaction:
                unit = Unit(connection, self.clock, cause, self.source, self.sender)
                yield unit
                await unit.flush()
                reach(CrashPoint.BEFORE_COMMIT)
                await self._commit(transaction, unit)
                reach(CrashPoint.AFTER_COMMIT)

    async def _commit(self, transaction: AsyncTransaction, unit: Unit) -> None:
        try:
            await transaction.commit()
        except asyncio.CancelledError:
            # It may have happened all the same; to look into the outbox in vain costs nothing.
            self._announce(unit)
            raise
        self._announce(unit)

    def _announce(self, unit: Unit) -> None:
        if unit.written:
            self.outgoing.set()

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


@asynccontextmanager
async def _started_over() -> AsyncIterator[None]:
    try:
        yield
    except DBAPIError as error:
        if lost_a_conflict(error):
            raise StaleRead from error
        raise
