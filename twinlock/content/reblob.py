"""Re-encrypt the files of a site in bounded steps, as `site move` asks: planned with no transaction open, and applied
inside of one.

Each blob gets a new key under the newest site key generation, and its row moves with it. A plan does everything that is
slow; applying it locks the site's row, checks that no key moved on, and switches the rows that are still as they were
read (law 3). A file that does not decrypt stays where it is, is named, and stops nobody else.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from sqlalchemy import select

from twinlock.content import containers, generations
from twinlock.content.blobs import COLUMNS, Blob, Blobs, StoredFile, place_of
from twinlock.content.containers import Container
from twinlock.content.filing import recount, repoint
from twinlock.content.keyring import SiteKeyring
from twinlock.content.objects import ObjectGone, Objects, claim_intents, supersede
from twinlock.content.reencrypt import Applied
from twinlock.content.sealing import bounded
from twinlock.content.settings import MIB, ContentSettings
from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import Asker
from twinlock.keys.errors import DecryptionError
from twinlock.store.tables.content import files
from twinlock.store.unit import StaleRead, Store, Unit

_BATCH_BYTES = 256 * MIB  # a step that fails loses no more than this, or one larger file
_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class BlobStep:
    """Hold a prepared step: the site as it was read, its re-encrypted files, and where the next step begins.

    `cursor` is None when there was nothing left behind the last one; `damaged` holds the ids of files that do not
    decrypt.
    """

    seen: Container
    moved: tuple[tuple[StoredFile, Blob], ...] = field(repr=False)
    damaged: tuple[str, ...]
    cursor: str | None


class BlobReencrypter:
    """Move a site's files to its newest key, one bounded step at a time."""

    def __init__(self, store: Store, objects: Objects, keyring: SiteKeyring, settings: ContentSettings) -> None:
        self._store = store
        self._objects = objects
        self._blobs = Blobs(objects)
        self._keyring = keyring
        self._settings = settings

    async def plan(self, site_id: str, cursor: str, asker: Asker) -> BlobStep | None:
        """Prepare the next step behind `cursor`, or return None where the site was removed."""
        async with self._store.read() as reader:
            seen = await containers.load(reader, site_id)
            if seen is None:
                return None
            row = files.c
            rows = await reader.rows(
                select(*(row[name] for name in COLUMNS))
                .where(row.container_id == site_id, row.id > cursor, row.generation != seen.newest.number)
                .where(row.object_name.is_not(None))
                .order_by(row.id)
                .limit(self._settings.batch_items)
            )
            chosen = bounded([StoredFile.of(each) for each in rows], _BATCH_BYTES)
        await self._open_all(seen, chosen, asker)
        moved, damaged = await self._move(seen, chosen, asker)
        return BlobStep(seen, tuple(moved), tuple(sorted(damaged)), chosen[-1].id if chosen else None)

    async def _open_all(self, seen: Container, chosen: Sequence[StoredFile], asker: Asker) -> None:
        """Open every key that is needed once before: what is wrong with a site key is no damage of a file."""
        try:
            for number in sorted({row.generation for row in chosen} | {seen.newest.number}):
                await self._keyring.open(seen.ref(number), asker)
        except GenerationGone:
            raise StaleRead from None

    async def _move(
        self, seen: Container, chosen: Sequence[StoredFile], asker: Asker
    ) -> tuple[list[tuple[StoredFile, Blob]], list[str]]:
        moved: list[tuple[StoredFile, Blob]] = []
        damaged: list[str] = []
        names = await self._objects.announce(seen.id, len(chosen), asker.cause)
        places = asyncio.Semaphore(_AT_ONCE)

        async def move(file: StoredFile, name: str) -> None:
            async with places:
                try:
                    moved.append((file, await self._moved(seen, file, name, asker)))
                except (DecryptionError, ObjectGone):
                    if await self._is_as_listed(seen, file):
                        damaged.append(file.id)

        try:
            async with asyncio.TaskGroup() as group:
                for file, name in zip(chosen, names, strict=True):
                    group.create_task(move(file, name))
        except ExceptionGroup as failed:
            # Callers tell failures apart by class; whatever else failed beside the first stays in its cause.
            first = failed.exceptions[0]
            raise (StaleRead() if isinstance(first, GenerationGone) else first) from failed
        return moved, damaged

    async def _moved(self, seen: Container, file: StoredFile, name: str, asker: Asker) -> Blob:
        place = place_of(seen.ref(seen.newest.number), file.id, file.version + 1)
        newest = await self._keyring.open(seen.ref(seen.newest.number), asker)
        async with aclosing(self._plain(seen, file, asker)) as plain:
            blob, key = await self._blobs.write(name, newest, place, plain)
        key.wipe()
        return blob

    async def _plain(self, seen: Container, file: StoredFile, asker: Asker) -> AsyncGenerator[bytes]:
        """Yield a file's bytes; a step may take long, so the custodian is asked again whenever a key's time is over."""
        lent = await self._keyring.lend(seen.ref(file.generation), asker)
        async with aclosing(self._blobs.read(lent.cipher, file.blob(seen.tenant_id, seen.id))) as chunks:
            async for chunk in chunks:
                if self._store.clock.monotonic() >= lent.until:
                    lent = await self._keyring.lend(seen.ref(file.generation), asker)
                yield chunk

    async def _is_as_listed(self, seen: Container, file: StoredFile) -> bool:
        # An object is deleted only after its row moved on: where the row did not, the object is lost or damaged.
        query = select(files.c.version).where(files.c.container_id == seen.id, files.c.id == file.id)
        async with self._store.read() as reader:
            return bool(await reader.scalar(query) == file.version)

    async def apply(self, unit: Unit, step: BlobStep) -> Applied:
        """Commit a step inside the caller's unit, or raise `StaleRead` where the site's keys moved on."""
        locked = await containers.lock_as_read(unit, step.seen)
        moved = await _still_as_read(unit, locked, step.moved)
        await repoint(unit, locked, [blob for _, blob in moved])
        await recount(unit, locked, [file for file, _ in moved], len(moved))
        await claim_intents(unit, [blob.object_name for _, blob in moved])
        supersede(unit, [file.object_name for file, _ in moved if file.object_name])
        await generations.destroy_empty(unit, locked, [older.number for older in locked.generations[:-1]])
        left = locked.items - locked.newest.items - len(moved)
        return Applied(len(moved), sum(file.size for file, _ in moved), step.damaged, finished=left == 0)


async def _still_as_read(
    unit: Unit, locked: Container, moved: Sequence[tuple[StoredFile, Blob]]
) -> list[tuple[StoredFile, Blob]]:
    """Leave out what was deleted or replaced meanwhile: a step updates only rows at the version that it read."""
    rows = await unit.rows(
        select(files.c.id, files.c.version).where(
            files.c.container_id == locked.id, files.c.id.in_([file.id for file, _ in moved])
        )
    )
    present = {(row.id, row.version) for row in rows}
    return [pair for pair in moved if (pair[0].id, pair[0].version) in present]
