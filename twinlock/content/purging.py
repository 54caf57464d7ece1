"""Destroy all content under a policy in bounded steps, which nobody reads any more: its policy key is gone already.

A step takes the first container that is left. Outside of any transaction it deletes objects that nothing points at;
then, in one, it deletes a batch of rows, whose objects the next step deletes, and at the end the container with its key
generations. Nothing is kept for `objects.keep`, and uploads under way lose their intents. Killed anywhere, the next
step finds what is left.
"""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from twinlock.content import containers
from twinlock.content.containers import Container
from twinlock.content.deleting import delete_files, delete_items
from twinlock.content.objects import Objects
from twinlock.content.settings import ContentSettings
from twinlock.crashpoints import CrashPoint, reach
from twinlock.store.once import insert_once
from twinlock.store.tables import content as tables
from twinlock.store.tables.content import container_keys, files, items, object_intents, superseded_objects
from twinlock.store.tables.purges import purged_generations
from twinlock.store.unit import Reader, Store, Unit


@dataclass(frozen=True, slots=True)
class Step:
    """Hold a container under the policy, and those of its objects that are deleted already."""

    container_id: str
    swept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Destroyed:
    """Count what a step destroyed."""

    containers: int = 0
    items: int = 0
    objects: int = 0


class ContentPurger:
    """Destroy the containers of a policy, one bounded step at a time."""

    def __init__(self, store: Store, objects: Objects, settings: ContentSettings) -> None:
        self._store = store
        self._objects = objects
        self._settings = settings

    async def plan(self, policy_id: str) -> Step | None:
        """Delete objects of the next container; none is left under the policy where this returns None."""
        key, old = container_keys.c, superseded_objects.c
        async with self._store.read() as reader:
            first = select(key.container_id).where(key.policy_id == policy_id).order_by(key.container_id).limit(1)
            container_id = await reader.scalar(first)
            if container_id is None:
                return None
            query = select(old.name).where(old.name.startswith(_prefix(container_id))).order_by(old.name)
            rows = await reader.rows(query.limit(self._settings.sweep_batch))
        for row in rows:
            await self._objects.delete(row.name)
            reach(CrashPoint.PURGE_OBJECT_DELETED)
        return Step(container_id, tuple(row.name for row in rows))

    async def apply(self, unit: Unit, purge_id: str | None, step: Step) -> Destroyed:
        """Delete the rows of what was swept and a batch of others, and the container when nothing is left of it.

        Without a purge nothing is kept for a certificate.
        """
        locked = await containers.lock(unit, step.container_id)
        if locked is None:
            return Destroyed()
        if purge_id is not None:
            await _note(unit, purge_id, locked)
        swept = await unit.execute(delete(superseded_objects).where(superseded_objects.c.name.in_(step.swept)))
        await _take_intents(unit, locked)
        gone = await self._delete_batch(unit, locked)
        await unit.flush()  # what was deleted just now is superseded, and seen here
        if await _has_any(unit, locked):
            return Destroyed(0, gone, swept.rowcount)
        await unit.execute(delete(container_keys).where(container_keys.c.container_id == locked.id))
        await unit.execute(delete(tables.containers).where(tables.containers.c.id == locked.id))
        return Destroyed(1, gone, swept.rowcount)

    async def _delete_batch(self, unit: Unit, locked: Container) -> int:
        most = self._settings.sweep_batch
        first = select(items.c.id).where(items.c.container_id == locked.id).order_by(items.c.id).limit(most)
        gone = len(await delete_items(unit, locked, [row.id for row in await unit.rows(first)]))
        chosen = select(files.c.id).where(files.c.container_id == locked.id).order_by(files.c.id).limit(most)
        blobs = await delete_files(unit, locked, files.c.id.in_([row.id for row in await unit.rows(chosen)]))
        return gone + sum(blob.object_name is not None for blob in blobs)


def _prefix(container_id: str) -> str:
    return f"{container_id}/"


async def _note(unit: Unit, purge_id: str, locked: Container) -> None:
    """Keep which generations there were, before the first of them goes."""
    key = container_keys.c
    for row in await unit.rows(select(container_keys).where(key.container_id == locked.id)):
        values = {
            "purge_id": purge_id,
            "container_id": row.container_id,
            "generation": row.generation,
            "policy_key_generation": row.policy_key_generation,
            "commitment": row.commitment,
        }
        await unit.execute(insert_once(unit, purged_generations).values(values))


async def _take_intents(unit: Unit, locked: Container) -> None:
    """Have objects under way swept as well: without its intent an upload deletes what it wrote."""
    intent = object_intents.c
    taken = delete(object_intents).where(intent.name.startswith(_prefix(locked.id))).returning(intent.name)
    rows = await unit.rows(taken)
    if rows:
        now = unit.clock.now()
        await unit.execute(insert(superseded_objects), [{"name": row.name, "superseded_at": now} for row in rows])


async def _has_any(reader: Reader, locked: Container) -> bool:
    old = superseded_objects.c
    left = (
        select(items.c.id).where(items.c.container_id == locked.id),
        select(files.c.id).where(files.c.container_id == locked.id),
        select(old.name).where(old.name.startswith(_prefix(locked.id))),
    )
    return any([await reader.row(query.limit(1)) is not None for query in left])
