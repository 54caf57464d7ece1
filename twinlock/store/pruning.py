"""Delete old rows by age, in small transactions: a table that is used meanwhile must not wait for it."""

from typing import Any

from sqlalchemy import Column, ColumnElement, delete, select

from twinlock.store.unit import Cause, Store, new_id

BATCH = 1000


async def prune(
    store: Store, age: Column[Any], before: Any, *conditions: ColumnElement[bool], most: int = BATCH
) -> int:
    """Delete the rows of a column's table that are older than `before`, the oldest first, and return how many.

    A transaction deletes `most` of them, and those that are exactly as old as the last of these.
    """
    gone = 0
    while True:
        async with store.begin(Cause(new_id())) as unit:
            old = select(age).where(age < before, *conditions).order_by(age)
            last = await unit.scalar(old.offset(most - 1).limit(1))
            until = age < before if last is None else age <= last
            gone += (await unit.execute(delete(age.table).where(until, *conditions))).rowcount
        if last is None:
            return gone
