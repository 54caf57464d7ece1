"""Two programs of different versions on one home, or one fleet: what the newer one writes is not lost at the older."""

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text, update

from events import dead_letters, embedded
from events.dead_letters import UNROUTED
from events.embedded import EmbeddedTransport
from events.relay import Relay
from schemas import envelope
from schemas.registry import EVENTS
from schemas.requests import MoveRequested
from twinlock.clock import ManualClock
from twinlock.store import migrate
from twinlock.store.engine import open_engine
from twinlock.store.tables.bus import deliveries, outbox
from twinlock.store.tables.shape import shape
from twinlock.store.unit import Cause, Store

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

CAUSE = Cause("test")
REASON = (
    "from the future: unknown-type: type: no event of this type is defined; "
    "upgrade this worker, then: twinlock dlq retry"
)
ROUTES: dict[str, tuple[str, ...]] = {MoveRequested.type: ("mailbox_reencryptor",)}


async def _dispatch(store: Store, clock: ManualClock, routes: dict[str, tuple[str, ...]]) -> None:
    await Relay(store, EmbeddedTransport(store, clock, routes), clock).pass_once()


async def test_request_of_a_newer_command(store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers of an older program on the same home have no consumer for is a dead letter; it is routed later."""
    async with store.begin(CAUSE) as unit:
        unit.emit(MoveRequested(mailbox="m@acme.example"), event_id="e1")
    with monkeypatch.context() as older:
        known = {name: event for name, event in EVENTS.items() if name != MoveRequested.type}
        older.setattr(envelope, "EVENTS", known)
        older.setattr(embedded, "EVENTS", known)
        await _dispatch(store, clock, {})
    async with store.read() as reader:
        letters = await dead_letters.listing(reader)

    assert [(UNROUTED, "e1", MoveRequested.type, REASON)] == [
        (each.consumer, each.id, each.type, each.reason) for each in letters
    ]

    async with store.begin(CAUSE) as unit:
        assert 1 == await dead_letters.retry(unit)
    await _dispatch(store, clock, ROUTES)
    async with store.read() as reader:
        assert [] == await dead_letters.listing(reader)
        assert "e1" not in {row.id for row in await reader.rows(select(outbox.c.id))}
        assert ["e1"] == [row.id for row in await reader.rows(select(deliveries.c.id))]


@pytest.mark.parametrize(("oldest", "serves"), [(None, False), ("9998", False), ("0009", True)])
async def test_newer_database(database: str, oldest: str | None, serves: bool) -> None:
    """A program goes on with a newer database that still serves it, and refuses any other."""
    engine: AsyncEngine = open_engine(database)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        if oldest is None:
            await connection.execute(text("DROP TABLE shape"))
        else:
            await connection.execute(update(shape).values(oldest=oldest))
    try:
        if serves:
            assert await migrate.is_current(engine)
        else:
            with pytest.raises(migrate.NewerDatabase, match="9999"):
                await migrate.is_current(engine)
    finally:
        await engine.dispose()
