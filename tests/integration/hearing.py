"""Have the alert emitter hear what was told: from its cause to what `twinlock alerts list` reads."""

from sqlalchemy import delete, select

from events.handler import Received
from schemas.envelope import parse
from twinlock.store.tables.bus import outbox
from twinlock.store.unit import Cause, Store
from workers.alert_emitter import reading
from workers.alert_emitter.hearing import HEARD, Hear
from workers.alert_emitter.look import look


async def listed(store: Store) -> list[tuple[str, str | None, str, str]]:
    """Take everything out of the outbox, and return all alerts: kind, slot, state and audience."""
    by_type = {event.type: Hear(event) for event in HEARD}
    async with store.begin(Cause("test")) as unit:
        rows = await unit.rows(select(outbox).order_by(outbox.c.number))
        await unit.execute(delete(outbox))
    for row in rows:
        if (handler := by_type.get(row.type)) is not None:
            envelope, event = parse(row.body)
            plan = await handler.prepare(event, Received(envelope, row.publisher))
            async with store.begin(Cause("test")) as unit:
                await handler.commit(unit, plan)
    async with store.read() as reader:
        return sorted((row.kind, row.slot, row.state, row.audience) for row in await reading.listing(reader))


async def looked(store: Store) -> list[tuple[str, str | None, str, str]]:
    """Return all alerts after a look that finds what is over."""
    await look(store, 0.0)
    return await listed(store)
