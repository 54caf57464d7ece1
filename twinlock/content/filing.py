"""Put files into a site: each under a new blob key, in one transaction, never under a key that is going (law 3).

A file's bytes come once, as a stream. Where the site's keys moved on before the commit, they are read back from the
blob that was just written, whose key is still in memory, and encrypted again under the newest.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, insert, or_, select, update

from twinlock.content import containers, generations
from twinlock.content.blobs import COLUMNS, Blob, Blobs, StoredFile, place_of
from twinlock.content.containers import Container
from twinlock.content.keyring import SiteKeyring
from twinlock.content.objects import Objects, claim_intents, supersede
from twinlock.content.paths import checked, folders_above, is_folder, shown_path
from twinlock.content.sources import SourceChanged, Unreadable
from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import Asker
from twinlock.errors import AlreadyExists, NotFound, TwinlockError
from twinlock.keys.blobs import BlobKey, SiteCipher
from twinlock.keys.items import MAX_ITEMS_PER_GENERATION
from twinlock.store.tables.content import container_keys, files
from twinlock.store.unit import Reader, StaleRead, Store, Unit, new_id

_TRIES = 20
_AT_ONCE = 3
_SOURCE_FAILED = (SourceChanged, Unreadable)


@dataclass(slots=True)
class FileDraft:
    """Hold a file that is to be put at a path; an empty folder has a path that ends in a slash, and no content.

    Where the content's source fails, `failure` says so, and the others are put without it.
    """

    path: bytes
    content: AsyncIterator[bytes] | None
    failure: TwinlockError | None = None
    id: str = field(default_factory=new_id)
    written: tuple[Blob, BlobKey] | None = field(default=None, repr=False)

    @property
    def blob(self) -> Blob | None:
        """Return what was written, if anything was."""
        return self.written[0] if self.written else None

    def forget_key(self) -> None:
        """Wipe the key of what was written: it is not read back any more."""
        if self.written is not None:
            self.written[1].wipe()


class Filer:
    """Put bounded batches of files into sites."""

    def __init__(self, store: Store, objects: Objects, keyring: SiteKeyring) -> None:
        self._store = store
        self._objects = objects
        self._blobs = Blobs(objects)
        self._keyring = keyring

    async def put(self, site_id: str, drafts: Sequence[FileDraft], asker: Asker) -> list[FileDraft]:
        """Put all files whose source can be read, in one transaction; what was there at a path is replaced.

        Raise `AlreadyExists` where a file would stand in a folder's place, or a folder in a file's.
        """
        for draft in drafts:
            checked(draft.path)
        try:
            for _ in range(_TRIES):
                try:
                    return await self._try_to_put(site_id, drafts, asker)
                except (StaleRead, GenerationGone):
                    continue
        finally:
            for draft in drafts:
                draft.forget_key()
        raise TwinlockError("the site's keys keep changing", hint="run the command again")

    async def _try_to_put(self, site_id: str, drafts: Sequence[FileDraft], asker: Asker) -> list[FileDraft]:
        async with self._store.read() as reader:
            seen = await _site(reader, site_id)
            before = await by_paths(reader, site_id, [draft.path for draft in drafts])
            await _refuse_conflicts(reader, site_id, drafts, before)
        cipher = await self._keyring.open(seen.ref(seen.newest.number), asker)
        await self._write_all(seen, [draft for draft in drafts if draft.content is not None], before, cipher, asker)
        good = [draft for draft in drafts if draft.failure is None]
        async with self._store.begin(asker.cause) as unit:
            locked = await containers.lock_as_read(unit, seen)
            if before != await by_paths(unit, site_id, [draft.path for draft in drafts]):
                raise StaleRead
            await _refuse_conflicts(unit, site_id, good, before)
            await _store(unit, locked, good, before)
        return good

    async def _write_all(
        self,
        seen: Container,
        drafts: Sequence[FileDraft],
        before: Mapping[bytes, StoredFile],
        cipher: SiteCipher,
        asker: Asker,
    ) -> None:
        wanted = [draft for draft in drafts if draft.failure is None]
        names = await self._objects.announce(seen.id, len(wanted), asker.cause)
        places = asyncio.Semaphore(_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for draft, name in zip(wanted, names, strict=True):
                    group.create_task(self._write(seen, draft, before.get(draft.path), cipher, name, places))
        except ExceptionGroup as failed:
            # Callers tell failures apart by class; whatever else failed beside the first stays in its cause.
            raise failed.exceptions[0] from failed

    async def _write(
        self,
        seen: Container,
        draft: FileDraft,
        old: StoredFile | None,
        cipher: SiteCipher,
        name: str,
        places: asyncio.Semaphore,
    ) -> None:
        file_id, version = (old.id, old.version + 1) if old is not None else (draft.id, 1)
        context = place_of(seen.ref(seen.newest.number), file_id, version)
        async with places:
            try:
                written = await self._blobs.write(name, cipher, context, self._source(draft))
                draft.forget_key()
                draft.written = written
            except _SOURCE_FAILED as failure:
                draft.failure = failure

    def _source(self, draft: FileDraft) -> AsyncIterator[bytes]:
        if draft.written is not None:
            return self._blobs.read_back(*draft.written)
        assert draft.content is not None  # noqa: S101  # narrows the type: folders are not written
        return draft.content


async def by_paths(reader: Reader, site_id: str, paths: Sequence[bytes]) -> dict[bytes, StoredFile]:
    """Return the rows at these paths."""
    query = select(*(files.c[name] for name in COLUMNS)).where(files.c.container_id == site_id, files.c.path.in_(paths))
    return {row.path: StoredFile.of(row) for row in await reader.rows(query)}


async def _site(reader: Reader, site_id: str) -> Container:
    seen = await containers.load(reader, site_id)
    if seen is None:
        raise NotFound("the site was removed meanwhile")
    if seen.newest.encrypted >= MAX_ITEMS_PER_GENERATION:
        raise TwinlockError(
            f"the key of {seen.name} has wrapped the keys of {seen.newest.encrypted} files, as many as one key may",
            hint=f"give it a new one: twinlock site move {seen.name}",
        )
    return seen


async def _refuse_conflicts(
    reader: Reader, site_id: str, drafts: Sequence[FileDraft], before: Mapping[bytes, StoredFile]
) -> None:
    """Refuse a file below a file, and a file or a folder where the other one is: no disk could hold them."""
    new = [draft.path for draft in drafts if draft.path not in before]
    above = {folder for path in new for folder in folders_above(path)}
    above |= {path.removesuffix(b"/") for path in new if is_folder(path)}
    row = files.c
    # "0" is what follows the slash: the range holds everything below.
    below = [and_(row.path >= path + b"/", row.path < path + b"0") for path in new if not is_folder(path)]
    conflicts: list[ColumnElement[bool]] = [row.path.in_(above), *below]
    if not new:
        return
    found = await reader.row(select(row.path).where(row.container_id == site_id, or_(*conflicts)).limit(1))
    if found is not None:
        raise AlreadyExists(
            f"the site has {shown_path(found.path)}: what is put would be a file and a folder of one name",
            hint="delete that first: twinlock site delete SITE PATH",
        )


async def _store(
    unit: Unit, locked: Container, drafts: Sequence[FileDraft], before: Mapping[bytes, StoredFile]
) -> None:
    replaced = [before[draft.path] for draft in drafts if draft.path in before and draft.blob is not None]
    new = [_inserted(unit, locked, draft) for draft in drafts if draft.path not in before]
    if new:
        await unit.execute(insert(files), new)
    await repoint(unit, locked, [draft.blob for draft in drafts if draft.path in before and draft.blob])
    blobs = [draft.blob for draft in drafts if draft.blob is not None]
    await recount(unit, locked, replaced, len(blobs))
    await claim_intents(unit, [blob.object_name for blob in blobs])
    supersede(unit, [old.object_name for old in replaced if old.object_name])
    if {old.generation for old in replaced} - {locked.newest.number}:
        await generations.destroy_empty(unit, locked, [older.number for older in locked.generations[:-1]])


_REPOINT = (
    update(files)
    .where(files.c.container_id == bindparam("at_container"), files.c.id == bindparam("at_id"))
    .values({name: bindparam(f"to_{name}") for name in COLUMNS[2:]})
)


async def repoint(unit: Unit, locked: Container, blobs: Sequence[Blob]) -> None:
    """Have the rows of these blobs' files point at them."""
    rows = [
        {
            "at_container": locked.id,
            "at_id": blob.context.file,
            "to_generation": blob.context.generation,
            "to_version": blob.context.version,
            "to_size": blob.size,
            "to_wrapped_key": blob.wrapped_key,
            "to_content_mac": blob.content_mac,
            "to_object_name": blob.object_name,
        }
        for blob in blobs
    ]
    if rows:
        await unit.execute(_REPOINT, rows)


def _inserted(unit: Unit, locked: Container, draft: FileDraft) -> dict[str, Any]:
    blob = draft.blob
    return {
        "container_id": locked.id,
        "id": draft.id,
        "path": draft.path,
        "generation": locked.newest.number if blob else None,
        "version": 1,
        "size": blob.size if blob else 0,
        "wrapped_key": blob.wrapped_key if blob else None,
        "content_mac": blob.content_mac if blob else None,
        "object_name": blob.object_name if blob else None,
        "created_at": unit.clock.now(),
    }


async def recount(unit: Unit, locked: Container, gone: Sequence[StoredFile], came: int) -> None:
    """Keep the exact counts: these blobs are no longer under their generations, and so many came under the newest."""
    keys = container_keys.c
    for number in locked.live:
        left = sum(1 for file in gone if file.generation == number and file.object_name is not None)
        added = came if number == locked.newest.number else 0
        if left or added:
            await unit.execute(
                update(container_keys)
                .where(keys.container_id == locked.id, keys.generation == number)
                .values(item_count=keys.item_count - left + added, encrypted_count=keys.encrypted_count + added)
            )
