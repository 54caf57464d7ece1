"""Requests that were taken once: their ids are kept, in the database that all replicas share, until they expire."""

from datetime import datetime, timedelta

from twinlock.store.once import insert_once
from twinlock.store.pruning import prune
from twinlock.store.tables.custody import taken_requests
from twinlock.store.unit import Store, Unit


async def take(unit: Unit, caller: str, request_id: str, until: datetime) -> bool:
    """Take a request, once: false where it was taken before."""
    row = {"caller": caller, "id": request_id, "until": until}
    return bool((await unit.execute(insert_once(unit, taken_requests).values(row))).rowcount)


async def forget(store: Store, after: float) -> int:
    """Forget ids that expired more than `after` seconds ago, when no replica's clock lets them in, and count them."""
    return await prune(store, taken_requests.c.until, store.clock.now() - timedelta(seconds=after))
