"""Content objects: immutable, announced by an intent before they are written, swept when unreferenced (law 14)."""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import cast

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore
from sqlalchemy import delete, insert, select

from twinlock.content.settings import MIB, ContentSettings
from twinlock.crashpoints import CrashPoint, reach
from twinlock.errors import TwinlockError
from twinlock.keys.guarded import Buffer
from twinlock.store.tables.content import object_intents, superseded_objects
from twinlock.store.unit import Cause, StaleRead, Store, Unit, new_id

# Two parts under way at a time keep a transfer busy and memory flat.
_PARTS = 2
_PART_BYTES = 5 * MIB
_SUPERSEDE = insert(superseded_objects)


class ObjectGone(Exception):
    """Say that an object is no longer there: the row that pointed at it has moved on."""


class ObjectsTrouble(TwinlockError):
    """Say that the object store did not do it now: nothing is lost, and asking again may be served."""


class Objects:
    """Write, read and delete objects in a local folder or an object store."""

    def __init__(self, backend: ObjectStore, store: Store, settings: ContentSettings) -> None:
        self._backend = backend
        self._store = store
        self._settings = settings
        # A local folder is made durable by us: the library leaves that to the operating system.
        self._folder = Path(backend.prefix) if isinstance(backend, LocalStore) and backend.prefix else None

    async def announce(self, container_id: str, count: int, cause: Cause) -> list[str]:
        """Commit intents for new objects and return their names; without a pointer they are swept later."""
        names = [f"{container_id}/{new_id()}" for _ in range(count)]
        if not names:
            return names
        expires = self._store.clock.now() + timedelta(seconds=self._settings.intent_seconds)
        async with self._store.begin(cause) as unit:
            await unit.execute(insert(object_intents), [{"name": name, "expires_at": expires} for name in names])
        reach(CrashPoint.AFTER_INTENT)
        return names

    async def write(self, name: str, content: Buffer | AsyncIterator[Buffer]) -> None:
        """Write an announced object; it is durable when this returns. `StaleRead` where its intent has expired."""
        try:
            with _told():
                await obstore.put_async(self._backend, name, content, chunk_size=_PART_BYTES, max_concurrency=_PARTS)
        except ObjectGone:
            raise ObjectsTrouble("there is no such bucket", hint="check its name in TWINLOCK_OBJECTS") from None
        if self._folder is not None:
            await asyncio.to_thread(_make_durable, self._folder / name)
        reach(CrashPoint.AFTER_OBJECT_WRITE)
        if not await self._is_announced(name):
            # Swept while it was written: nothing would ever name it again. An intent that goes later takes it along.
            await self.delete(name)
            raise StaleRead

    async def _is_announced(self, name: str) -> bool:
        async with self._store.read() as reader:
            return await reader.row(select(object_intents.c.name).where(object_intents.c.name == name)) is not None

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """Yield an object's bytes in chunks, or raise `ObjectGone` at the first."""
        size, chunk = await self.size(name), self._settings.stream_chunk
        parts = [(start, min(start + chunk, size)) for start in range(0, size, chunk)]
        async with contextlib.aclosing(self.parts(name, parts)) as chunks:
            async for each in chunks:
                yield bytes(each)

    async def whole(self, name: str) -> Buffer:
        """Return all bytes of an object that is small enough to hold, or raise `ObjectGone`."""
        with _told():
            found = await obstore.get_async(self._backend, name)
            return memoryview(await found.bytes_async())

    async def size(self, name: str) -> int:
        """Return how long an object is, or raise `ObjectGone`."""
        with _told():
            return (await obstore.head_async(self._backend, name))["size"]

    async def parts(self, name: str, parts: Iterable[tuple[int, int]]) -> AsyncGenerator[Buffer]:
        """Yield ranges of an object, each from its first byte to before its second; the next one is fetched meanwhile.

        By ranges, because the library's own stream comes in pieces of 8 KiB from a folder.
        """
        ahead: deque[asyncio.Future[obstore.Bytes]] = deque()
        waiting = iter(parts)
        try:
            while True:
                for start, stop in islice(waiting, _PARTS - len(ahead)):
                    ahead.append(self._begin(name, start, stop))
                if not ahead:
                    return
                with _told():
                    part = await ahead.popleft()
                yield memoryview(part)
        finally:
            for left in ahead:
                left.cancel()

    def _begin(self, name: str, start: int, stop: int) -> "asyncio.Future[obstore.Bytes]":
        # The library begins at once, in its own threads: what it returns is a future, whatever its declaration says.
        begun = obstore.get_range_async(self._backend, name, start=start, end=stop)
        return cast("asyncio.Future[obstore.Bytes]", begun)

    async def delete(self, name: str) -> None:
        """Delete an object and what an interrupted upload left of it; deleting what is gone is no error."""
        with contextlib.suppress(ObjectGone), _told():
            await obstore.delete_async(self._backend, name)
        if self._folder is not None:
            await asyncio.to_thread(_delete_staged, self._folder / name)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Put what the library raises into our words: its own may hold names, addresses and what was signed."""
    try:
        yield
    except FileNotFoundError as gone:
        if gone.errno is not None:
            raise  # not the library's: what was to be written comes from a file
        raise ObjectGone from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise ObjectsTrouble(
            f"the object store refuses us ({type(error).__name__})", hint="check the credentials in TWINLOCK_OBJECTS"
        ) from None
    except BaseError as error:
        raise ObjectsTrouble(
            f"the object store can't be used now ({type(error).__name__})",
            hint="check that it is there, its disk, and the owner of a folder",
        ) from None


async def claim_intents(unit: Unit, names: Sequence[str]) -> None:
    """Remove the intents of objects that this unit points at; `StaleRead` where the sweeper was faster."""
    if not names:
        return
    removed = await unit.execute(delete(object_intents).where(object_intents.c.name.in_(names)))
    if removed.rowcount != len(names):
        raise StaleRead
    reach(CrashPoint.AFTER_SWITCH)


def supersede(unit: Unit, names: Iterable[str]) -> None:
    """Note that nothing points at these objects any more; they are kept for `objects.keep`."""
    unit.queue(_SUPERSEDE, ({"name": name, "superseded_at": unit.clock.now()} for name in names))


def _make_durable(path: Path) -> None:
    # The file's bytes, then its name in the folder, then the folder's own name: each needs its fsync (fsync(2)).
    for target in (path, path.parent, path.parent.parent):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _delete_staged(path: Path) -> None:
    # A killed upload leaves its staging file beside the target: NAME#1, NAME#2, ...
    for staged in path.parent.glob(f"{path.name}#*"):
        staged.unlink(missing_ok=True)
