"""Delete items: their rows and their counts, their objects and the older keys that this empties, in one transaction."""

from collections.abc import Collection

from sqlalchemy import delete, update

from twinlock.content import generations
from twinlock.content.containers import Container
from twinlock.content.objects import supersede
from twinlock.store.tables.content import container_keys, items
from twinlock.store.unit import Unit


async def delete_items(unit: Unit, locked: Container, ids: Collection[str]) -> set[str]:
    """Delete those of these items that a locked container still has, and return their ids."""
    rows = await unit.rows(
        delete(items)
        .where(items.c.container_id == locked.id, items.c.id.in_(ids))
        .returning(items.c.id, items.c.generation, items.c.object_name)
    )
    for number in locked.live:
        gone = sum(1 for row in rows if row.generation == number)
        await unit.execute(
            update(container_keys)
            .where(container_keys.c.container_id == locked.id, container_keys.c.generation == number)
            .values(item_count=container_keys.c.item_count - gone)
        )
    supersede(unit, [row.object_name for row in rows if row.object_name])
    await generations.destroy_empty(unit, locked, [older.number for older in locked.generations[:-1]])
    return {row.id for row in rows}
