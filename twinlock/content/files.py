"""The content API for sites: put, get, range, delete and list files.

What a file holds never lies anywhere in the clear: it is one blob in the object store, under a key of its own that the
site's key wraps, and it is handed out only when the custodian opens that one.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from sqlalchemy import select

from schemas.identifiers import Workload
from twinlock.content import containers
from twinlock.content.blobs import COLUMNS, Blob, Blobs, StoredFile
from twinlock.content.containers import Container
from twinlock.content.deleting import delete_files
from twinlock.content.filing import FileDraft, Filer
from twinlock.content.keyring import SiteKeyring
from twinlock.content.objects import ObjectGone, Objects
from twinlock.content.paths import BadPath, checked, is_folder, shown_path
from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import Asker, ContainerRef
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.tables.content import containers as container_rows
from twinlock.store.tables.content import files
from twinlock.store.unit import Cause, Store

_PAGE = 500


class BadRange(TwinlockError):
    """Refuse a range that does not lie inside of its file."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Hold a file with where it is."""

    tenant_id: str
    site_id: str
    file: StoredFile

    @property
    def ref(self) -> ContainerRef:
        return ContainerRef(self.tenant_id, self.site_id, self.file.generation)

    @property
    def blob(self) -> Blob:
        return self.file.blob(self.tenant_id, self.site_id)


class Files:
    """Put, get, delete and list the files of sites. A site is named TENANT/SITE, or by its name where it is unique."""

    def __init__(self, store: Store, objects: Objects, keyring: SiteKeyring, filer: Filer) -> None:
        self._store = store
        self._blobs = Blobs(objects)
        self._keyring = keyring
        self._filer = filer

    async def put(self, site: str, path: bytes, content: AsyncIterator[bytes], asker: Asker) -> str:
        """Put a file of any size and return its id; what was at this path is replaced, all of it or nothing."""
        if is_folder(checked(path)):
            raise BadPath(f"{shown_path(path)} is the path of a folder", hint="leave out the slash at its end")
        async with self._store.read() as reader:
            found = await containers.find_site(reader, site)
        (put,) = await self._filer.put(found.id, [FileDraft(path, content)], asker)
        return put.blob.context.file if put.blob else put.id

    async def get(self, site: str, path: bytes, asker: Asker) -> AsyncGenerator[bytes]:
        """Yield a file's bytes, authenticated before they are handed out.

        Raise `NotFound`, `KeyRefused` or `KeyNotYet` before the first chunk; a large file asks the custodian again
        every 60 s, and ends in such an error where the key was taken away meanwhile.
        """
        async with aclosing(self._content(await self._find(site, path), 0, None, asker)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def range(self, site: str, path: bytes, start: int, stop: int, asker: Asker) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` to before `stop`, as `get` does; the rest of the file is not read.

        Raise `BadRange` where there are no such bytes; a `stop` behind the end means the end.
        """
        found = await self._find(site, path)
        async with aclosing(self._content(found, start, stop, asker)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def list(self, site: str) -> AsyncGenerator[StoredFile]:
        """Yield the files of a site by path, without their content; empty folders too, whose paths end in a slash."""
        async with self._store.read() as reader:
            found = await containers.find_site(reader, site)
        async with aclosing(self.listing(found)) as listed:
            async for file in listed:
                yield file

    async def listing(self, site: Container) -> AsyncGenerator[StoredFile]:
        """Yield the files of a site a page at a time: memory does not grow, and no reader holds up writers."""
        last = b""
        described = select(*(files.c[name] for name in COLUMNS)).where(files.c.container_id == site.id)
        while True:
            query = described.where(files.c.path > last).order_by(files.c.path).limit(_PAGE)
            async with self._store.read() as reader:
                page = [StoredFile.of(row) for row in await reader.rows(query)]
            for file in page:
                yield file
            if len(page) < _PAGE:
                return
            last = page[-1].path

    async def content(self, site: Container, file: StoredFile, asker: Asker) -> AsyncGenerator[bytes]:
        """Yield the bytes of a listed file, as `get` does."""
        found = _Found(site.tenant_id, site.id, file)
        async with aclosing(self._content(found, 0, None, asker)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _content(self, found: _Found, start: int, stop: int | None, asker: Asker) -> AsyncGenerator[bytes]:
        """Yield a range; where its key or object is gone, the row is read again once (law 3)."""
        chunks = self._chunks(found, start, stop, asker)
        try:
            first = await anext(chunks, None)
        except (ObjectGone, GenerationGone):
            chunks = self._chunks(await self._again(found), start, stop, asker)
            first = await anext(chunks, None)
        async with aclosing(chunks):
            if first is not None:
                yield first
            async for chunk in chunks:
                yield chunk

    async def _chunks(self, found: _Found, start: int, stop: int | None, asker: Asker) -> AsyncGenerator[bytes]:
        if stop is not None:
            _check_range(found.file, start, stop)  # each time: a file that was replaced meanwhile may be shorter
        lent = await self._keyring.lend(found.ref, asker)
        blob, until = found.blob, lent.until
        end = blob.size if stop is None else min(stop, blob.size)
        async with aclosing(self._blobs.read_range(lent.cipher, blob, start, end)) as chunks:
            async for chunk in chunks:
                if self._store.clock.monotonic() >= until:
                    until = await self._ask_again(found, asker)
                yield chunk

    async def _ask_again(self, found: _Found, asker: Asker) -> float:
        # The file may have moved to a newer key meanwhile: whether this reader may still read is asked of that one.
        now = await self._again(found)
        try:
            return (await self._keyring.lend(now.ref, asker)).until
        except GenerationGone:
            return (await self._keyring.lend((await self._again(found)).ref, asker)).until

    async def delete(self, site: str, paths: Sequence[bytes], cause: Cause) -> int:
        """Delete files and empty folders, all or none, also while a step is at work; their objects are swept later."""
        async with self._store.read() as reader:
            found = await containers.find_site(reader, site)
        async with self._store.begin(cause) as unit:
            locked = await containers.lock(unit, found.id)
            if locked is None:
                raise _no_file(found.name, *paths)
            meant = {*paths, *(path + b"/" for path in paths)}
            gone = await delete_files(unit, locked, files.c.path.in_(meant))
            missing = sorted(
                {path.removesuffix(b"/") for path in paths} - {file.path.removesuffix(b"/") for file in gone}
            )
            if missing:
                raise _no_file(found.name, *missing)
        return len(gone)

    async def _find(self, site: str, path: bytes) -> _Found:
        """Find a file by one statement where the site is named in full; only what is not there costs more."""
        query = select(container_rows.c.tenant_id, files.c.container_id, *(files.c[name] for name in COLUMNS))
        joined = query.join_from(files, container_rows, files.c.container_id == container_rows.c.id)
        named = (container_rows.c.workload == Workload.SITE, container_rows.c.name == site, files.c.path == path)
        async with self._store.glance() as reader:
            row = await reader.row(joined.where(*named))
        if row is not None and not is_folder(path):
            return _Found(row.tenant_id, row.container_id, StoredFile.of(row))
        async with self._store.read() as reader:
            found = await containers.find_site(reader, site)
        if found.name == site or is_folder(path):
            raise _no_file(found.name, path)
        return await self._find(found.name, path)

    async def _again(self, found: _Found) -> _Found:
        query = select(*(files.c[name] for name in COLUMNS)).where(
            files.c.container_id == found.site_id, files.c.id == found.file.id
        )
        async with self._store.glance() as reader:
            row = await reader.row(query)
        if row is None:
            raise NotFound(f"{shown_path(found.file.path)} was deleted meanwhile")
        return _Found(found.tenant_id, found.site_id, StoredFile.of(row))


def _check_range(file: StoredFile, start: int, stop: int) -> None:
    if not 0 <= start < min(stop, file.size):
        raise BadRange(f"{shown_path(file.path)} has no bytes {start} to {stop - 1}", hint=f"it has {file.size} bytes")


def _no_file(site: str, *paths: bytes) -> NotFound:
    shown = ", ".join(shown_path(path) for path in paths)
    return NotFound(f"{site} has no file {shown}", hint="a path is relative to the folder that was imported")
