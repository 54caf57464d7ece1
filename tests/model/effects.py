"""Count effects: what each handler commits is written down with it, and so is what each relay hands over.

Both go with the transaction that they are about: what is rolled back was not, and what was done twice is there twice.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from events.handler import Handler, Received
from events.transport import Message
from schemas.envelope import parse
from schemas.event import Event
from schemas.facts import AlertChanged, AlertRaised
from schemas.identifiers import AlertNews, AlertState
from twinlock.store.tables.alerts import alerts
from twinlock.store.tables.custody import audit_entries
from twinlock.store.unit import Reader, Unit

_metadata = MetaData()
_done = Table(
    "model_done",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("consumer", String(40)),
    Column("source", String(200)),
    Column("id", String(100)),
)
_told = Table(
    "model_told",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("source", String(200)),
    Column("id", String(100)),
    Column("type", String(100)),
    Column("body", LargeBinary),
)


async def lay(engine: AsyncEngine) -> None:
    """Make the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(_metadata.create_all)


class Counted:
    """Write down what a handler commits, in its own transaction."""

    def __init__(self, handler: Handler[Any, Any]) -> None:
        self.consumer, self.handles = handler.consumer, handler.handles
        self._handler = handler

    async def prepare(self, event: Event, received: Received) -> Any:
        """Let it prepare."""
        return received.envelope, await self._handler.prepare(event, received)

    async def commit(self, unit: Unit, plan: Any) -> None:
        """Let it commit."""
        envelope, own = plan
        values = {"consumer": self.consumer, "source": envelope.source, "id": envelope.id}
        await unit.execute(insert(_done).values(values))
        await self._handler.commit(unit, own)


async def note_told(unit: Unit, messages: Sequence[Message]) -> None:
    """Write down what a relay hands over."""
    for each in messages:
        values = {"source": each.source, "id": each.id, "type": each.type, "body": each.body}
        await unit.execute(insert(_told).values(values))


async def check_once(reader: Reader, routes: Callable[[str], Sequence[str]]) -> None:
    """See that all that was told was told once, and done once by everybody who takes it, now that all is done."""
    told = await reader.rows(select(_told.c.source, _told.c.id, _told.c.type))
    assert [] == [each for each, count in Counter(told).items() if count > 1], "told twice"
    wanted = Counter((consumer, row.source, row.id) for row in told for consumer in routes(row.type))
    done = Counter(tuple(row) for row in await reader.rows(select(_done.c.consumer, _done.c.source, _done.c.id)))
    assert {} == dict(done - wanted), "done twice"
    assert {} == dict(wanted - done), "never done"


async def check_alerts(reader: Reader) -> None:
    """See that alerts count what was raised, and that who listens was told of each beginning once and of each end."""
    raised, changes = await _events(reader, AlertRaised), await _events(reader, AlertChanged)
    assert len(raised) == await reader.scalar(select(func.sum(alerts.c.times))), "what was raised is counted wrong"
    first = Counter(each.alert for each in changes if each.version == 1)  # it may be over by then
    opened = Counter(each.alert for each in changes if each.news is AlertNews.OPENED)
    last = {each.alert: each.news for each in sorted(changes, key=lambda each: each.version)}
    stored = {row.id: row.state for row in await reader.rows(select(alerts.c.id, alerts.c.state))}
    assert Counter(stored.keys()) == first, "an episode is told of from the first"
    assert opened <= first, "it is told to begin once"
    ended = {name for name, news in last.items() if news is AlertNews.RESOLVED}
    assert {name for name, state in stored.items() if state == AlertState.RESOLVED} == ended, "its end is told"


async def check_audit(reader: Reader) -> None:
    """See that whatever became of a request is written down once; it may have been asked for again."""
    rows = await reader.rows(select(audit_entries.c.kind, audit_entries.c.detail))
    kinds = ("approval-done", "approval-cancelled", "purge-begun")
    noted = Counter((row.kind, row.detail["request"]) for row in rows if row.kind in kinds)
    assert [] == [each for each, count in noted.items() if count > 1], "written down twice"


async def _events(reader: Reader, kind: type[Event]) -> list[Any]:
    rows = await reader.rows(select(_told.c.body).where(_told.c.type == kind.type))
    return [parse(row.body)[1] for row in rows]
