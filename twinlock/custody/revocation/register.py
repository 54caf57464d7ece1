"""The custodian processes that may serve: each is a row with the newest revocation that it has confirmed (law 8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update

from twinlock.store.once import insert_once
from twinlock.store.tables.custody import custodians
from twinlock.store.unit import Cause, Reader, Store, Unit, new_id

Report = Mapping[str, Any]  # what a process holds, as JSON
GONE_SECONDS = 60.0  # after which the row of a process that does not confirm any more is of no use to anybody


@dataclass(frozen=True, slots=True)
class Instance:
    """Name a process that may run a custodian, among all that ever did, and the worker that it is."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Registered:
    """Describe a process as its row does."""

    instance: str
    epoch: int
    confirmed_at: datetime
    report: Report


async def confirm(unit: Unit, instance: Instance, epoch: int, report: Report) -> None:
    """Say that a process has dropped the keys of whatever was revoked up to a number."""
    row, now = custodians.c, unit.clock.now()
    values = {"epoch": epoch, "confirmed_at": now, "report": report}
    known = update(custodians).where(row.instance == instance.id).values(values)
    if (await unit.execute(known)).rowcount:
        return
    fresh = {"instance": instance.id, "name": instance.name, "registered_at": now, **values}
    await unit.execute(insert_once(unit, custodians).values(fresh))


async def remove(unit: Unit, instance: Instance) -> None:
    """Take a process out that serves nothing any more."""
    await unit.execute(delete(custodians).where(custodians.c.instance == instance.id))


async def read_all(reader: Reader) -> Sequence[Registered]:
    """Return every process, by its name."""
    rows = await reader.rows(select(custodians).order_by(custodians.c.instance))
    return [Registered(row.instance, row.epoch, row.confirmed_at, row.report) for row in rows]


async def forget(store: Store) -> int:
    """Remove the processes that went without a word, and count them: they have lost the right to serve long ago."""
    async with store.begin(Cause(new_id())) as unit:
        before = unit.clock.now() - timedelta(seconds=GONE_SECONDS)
        return (await unit.execute(delete(custodians).where(custodians.c.confirmed_at < before))).rowcount
