"""Delete objects that nobody points at, and no other (law 14).

An expired intent first becomes a superseded object, in one transaction; only then is the object deleted, and its row
after it. Killed anywhere, the next sweep goes on.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select

from twinlock.content.objects import Objects
from twinlock.content.settings import ContentSettings
from twinlock.crashpoints import CrashPoint, reach
from twinlock.store.tables.content import object_intents, superseded_objects
from twinlock.store.unit import Cause, Store

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Sweeper:
    """Sweep the object store, a bounded batch at a time."""

    def __init__(self, store: Store, objects: Objects, settings: ContentSettings) -> None:
        self._store = store
        self._objects = objects
        self._settings = settings

    async def sweep(self, cause: Cause) -> int:
        """Delete what is due and return how many objects that were."""
        await self._give_up_expired(cause)
        names = await self._due()
        for name in names:
            await self._objects.delete(name)
        if names:
            async with self._store.begin(cause) as unit:
                await unit.execute(delete(superseded_objects).where(superseded_objects.c.name.in_(names)))
        return len(names)

    async def _give_up_expired(self, cause: Cause) -> None:
        expired = (
            select(object_intents.c.name)
            .where(object_intents.c.expires_at <= self._store.clock.now())
            .limit(self._settings.sweep_batch)
        )
        async with self._store.read() as reader:
            if await reader.row(expired) is None:
                return
        async with self._store.begin(cause) as unit:
            names = [row.name for row in await unit.rows(expired.with_for_update(skip_locked=True))]
            removed = await unit.rows(
                delete(object_intents).where(object_intents.c.name.in_(names)).returning(object_intents.c.name)
            )
            if removed:
                await unit.execute(
                    insert(superseded_objects), [{"name": row.name, "superseded_at": _LONG_AGO} for row in removed]
                )
        reach(CrashPoint.SWEEP_BEFORE_DELETE)

    async def _due(self) -> list[str]:
        before = self._store.clock.now() - timedelta(seconds=self._settings.objects_keep)
        query = (
            select(superseded_objects.c.name)
            .where(superseded_objects.c.superseded_at <= before)
            .limit(self._settings.sweep_batch)
        )
        async with self._store.read() as reader:
            return [row.name for row in await reader.rows(query)]
