"""The values in a column, by one step in its index for each of them, however many rows there are."""

from typing import Any

from sqlalchemy import Column, Select, func, select


def distinct(column: Column[Any]) -> Select[tuple[Any]]:
    """Select each value of a column that begins an index, once, as `value`."""
    first = select(func.min(column).label("value")).cte(f"{column.table.name}_{column.name}", recursive=True)
    following = select(func.min(column)).where(column > first.c.value).correlate(first).scalar_subquery()
    steps = first.union_all(select(following).where(first.c.value.is_not(None)))
    return select(steps.c.value).where(steps.c.value.is_not(None))
