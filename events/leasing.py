"""Rows of the outbox in the hands of one relay, so that several of them share the work (law 12).

Replicas of one worker have one sender, and each leases rows that no other has. A lease that lapses, because its relay
died or is slow, is everybody's again: publishing twice does no harm.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, or_, select, update

from twinlock.store.tables.bus import outbox
from twinlock.store.unit import Reader, Unit

_PUT_OFF = (
    update(outbox)
    .where(outbox.c.number == bindparam("at_number"), outbox.c.lease_owner == bindparam("at_owner"))
    .values(attempts=outbox.c.attempts + 1, not_before=bindparam("to_moment"), lease_owner=None, lease_until=None)
)


def _due(sender: str, owner: str, now: datetime) -> ColumnElement[bool]:
    # A pass that was cut leaves leases behind, which are no other relay's than its own.
    free = or_(outbox.c.lease_until.is_(None), outbox.c.lease_until <= now, outbox.c.lease_owner == owner)
    return and_(outbox.c.publisher == sender, or_(outbox.c.not_before.is_(None), outbox.c.not_before <= now), free)


async def anything_due(reader: Reader, sender: str, owner: str, now: datetime) -> bool:
    """Tell whether a relay would find anything to lease."""
    due = select(outbox.c.number).where(_due(sender, owner, now)).order_by(outbox.c.number).limit(1)
    return await reader.row(due) is not None


async def lease(unit: Unit, owner: str, seconds: float, most: int, after: int) -> Sequence[Row[Any]]:
    """Lease due rows of the unit's sender with numbers above `after`, and return them by number."""
    now = unit.clock.now()
    chosen = select(outbox.c.number).where(_due(unit.sender, owner, now), outbox.c.number > after)
    chosen = chosen.order_by(outbox.c.number).limit(most).with_for_update(skip_locked=True)
    numbers = [row.number for row in await unit.rows(chosen)]
    if not numbers:
        return ()
    until = now + timedelta(seconds=seconds)
    leased = update(outbox).where(outbox.c.number.in_(numbers)).values(lease_owner=owner, lease_until=until)
    return sorted(await unit.rows(leased.returning(*outbox.c)), key=lambda row: row.number)


async def remove(unit: Unit, numbers: Collection[int]) -> None:
    """Delete what was taken, whoever has it now."""
    if numbers:
        await unit.execute(delete(outbox).where(outbox.c.number.in_(numbers)))


async def put_off(unit: Unit, owner: str, delays: Mapping[int, float]) -> None:
    """Count an attempt of each of these rows, by number, and free it for later: so it holds up nobody behind it."""
    now = unit.clock.now()
    rows = [
        {"at_number": number, "at_owner": owner, "to_moment": now + timedelta(seconds=delay)}
        for number, delay in delays.items()
    ]
    if rows:
        await unit.execute(_PUT_OFF, rows)


async def free(unit: Unit, owner: str, numbers: Collection[int]) -> None:
    """Give back what a relay still holds of these: the trouble is not the rows'."""
    held = update(outbox).where(outbox.c.number.in_(numbers), outbox.c.lease_owner == owner)
    if numbers:
        await unit.execute(held.values(lease_owner=None, lease_until=None))
