"""Requests that were taken once: their ids are kept, in the database that all replicas share, until they expire."""

from datetime import datetime, timedelta

from sqlalchemy import delete

from twinlock.store.once import insert_once
from twinlock.store.tables.custody import taken_requests
from twinlock.store.unit import Cause, Store, Unit, new_id


async def take(unit: Unit, caller: str, request_id: str, until: datetime) -> bool:
    """Take a request, once: false where it was taken before."""
    row = {"caller": caller, "id": request_id, "until": until}
    return bool((await unit.execute(insert_once(unit, taken_requests).values(row))).rowcount)


async def forget(store: Store, after: float) -> int:
    """Forget ids that expired more than `after` seconds ago, when no replica's clock lets them in, and count them."""
    async with store.begin(Cause(new_id())) as unit:
        before = unit.clock.now() - timedelta(seconds=after)
        return (await unit.execute(delete(taken_requests).where(taken_requests.c.until < before))).rowcount
