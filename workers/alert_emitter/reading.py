"""Read alerts, for whoever shows them."""

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, select

from twinlock.store.tables.alerts import alerts
from twinlock.store.unit import Reader, Store

POLL_SECONDS = 0.5
_LATE = timedelta(seconds=60)  # longer than it takes from the moment that a change notes to its commit


async def listing(reader: Reader, *, only_open: bool = False, tenant: str | None = None) -> Sequence[Row[Any]]:
    """Return alerts, the oldest first."""
    query = select(alerts).order_by(alerts.c.first_seen, alerts.c.id)
    if only_open:
        query = query.where(alerts.c.ongoing.is_not(None))
    if tenant is not None:
        query = query.where(alerts.c.tenant == tenant)
    return await reader.rows(query)


async def follow(store: Store, poll_seconds: float = POLL_SECONDS) -> AsyncGenerator[Row[Any], None]:
    """Yield each alert whenever it changes, from now on, for ever."""
    known = {(row.id, row.version) for row in await _changed(store)}
    while True:
        rows = await _changed(store)
        for row in rows:
            if (row.id, row.version) not in known:
                yield row
        known = {(row.id, row.version) for row in rows}
        await store.clock.sleep(poll_seconds)


async def _changed(store: Store) -> Sequence[Row[Any]]:
    async with store.read() as reader:
        since = store.clock.now() - _LATE
        return await reader.rows(select(alerts).where(alerts.c.changed_at >= since).order_by(alerts.c.changed_at))
