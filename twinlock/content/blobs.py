"""Write and read the blobs of files in the object store: streams of any size in flat memory, and ranges of them.

Nothing here touches a row. Reading the source, encrypting, the MAC and the object store all overlap, a few megabytes at
a time: few changes of thread, and none for what is small.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy.engine import Row

from twinlock.content.objects import ObjectGone, Objects, ObjectsTrouble
from twinlock.content.settings import KIB, MIB
from twinlock.custody.port import ContainerRef
from twinlock.errors import TwinlockError
from twinlock.keys.blobs import BlobKey, BlobOpener, ContentMac, SiteCipher
from twinlock.keys.context import BlobContext
from twinlock.keys.errors import DecryptionError
from twinlock.keys.guarded import Buffer
from twinlock.keys.streaming import HEADER_BYTES, SEGMENT_BYTES, Layout
from twinlock.store.unit import StaleRead

CHUNK = 1 * MIB
_PIECE = CHUNK // SEGMENT_BYTES  # segments
_INLINE = 128 * KIB  # less is done sooner than another thread is told to
_WASTE = 256 * KIB  # what is read in vain sooner than asked for apart


@dataclass(frozen=True, slots=True)
class Blob:
    """Hold what a row says of its file's blob."""

    context: BlobContext
    size: int
    wrapped_key: bytes = field(repr=False)
    content_mac: bytes = field(repr=False)
    object_name: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Describe a row of `files`; an empty folder has no blob, and generation 0."""

    id: str
    path: bytes
    generation: int
    version: int
    size: int
    wrapped_key: bytes | None = field(repr=False)
    content_mac: bytes | None = field(repr=False)
    object_name: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> "StoredFile":
        """Read the columns of a row of `files`."""
        return cls(row.id, row.path, row.generation or 0, *(getattr(row, name) for name in COLUMNS[3:]))

    def blob(self, tenant_id: str, container_id: str) -> Blob:
        """Return the blob of a file in this site."""
        if self.wrapped_key is None or self.content_mac is None or self.object_name is None:
            raise DecryptionError  # the database knows no such file
        context = BlobContext(tenant_id, container_id, self.generation, self.id, self.version)
        return Blob(context, self.size, self.wrapped_key, self.content_mac, self.object_name)


COLUMNS = ("id", "path", "generation", "version", "size", "wrapped_key", "content_mac", "object_name")


def place_of(ref: ContainerRef, file_id: str, version: int) -> BlobContext:
    """Return where a blob of this site key generation belongs."""
    return BlobContext(ref.tenant_id, ref.container_id, ref.generation, file_id, version)


class Blobs:
    """Write and read blobs."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def write(
        self, name: str, cipher: SiteCipher, context: BlobContext, plain: AsyncIterator[bytes]
    ) -> tuple[Blob, BlobKey]:
        """Encrypt a stream under a new key into an announced object; the key is for who may have to read it again."""
        key, wrapped = cipher.make(context)
        writing = _Writing(key)
        chunks = gathered(plain)
        first, second = await anext(chunks, b""), await anext(chunks, None)
        try:
            if second is None:
                await self._objects.write(name, await _off_loop(len(first), lambda: writing.at_once(first)))
            else:
                await self._objects.write(name, writing.stream(first, second, chunks))
        except StaleRead:
            # The source can't be read a second time, and of the first nothing is left.
            raise _too_long() from None
        return Blob(context, writing.size, wrapped, writing.mac.finish(), name), key

    def read(self, cipher: SiteCipher, blob: Blob) -> AsyncGenerator[bytes]:
        """Yield a whole blob, authenticated chunk by chunk; a damaged or cut one ends in DecryptionError."""
        return self.read_range(cipher, blob, 0, blob.size)

    async def read_back(self, blob: Blob, key: BlobKey) -> AsyncGenerator[bytes]:
        """Yield a blob that this process has just written, with the key that it still has."""
        try:
            opener, whole = await self._checked(key, blob, blob.size)
            async with aclosing(self._plain(opener, whole, blob, 0, blob.size)) as pieces:
                async for piece in pieces:
                    yield piece
        except ObjectGone:
            raise _too_long() from None  # swept: its intent has expired

    async def read_range(self, cipher: SiteCipher, blob: Blob, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield bytes `start` to before `stop`, both inside the blob, once its end is known to be genuine."""
        opener, whole = cipher.recall(blob.wrapped_key, blob.context), None
        if opener is None:
            key = cipher.open(blob.wrapped_key, blob.context)
            opener, whole = await self._checked(key, blob, stop - start)
            key.wipe()
            cipher.remember(blob.wrapped_key, blob.context, opener)
        async with aclosing(self._plain(opener, whole, blob, start, stop)) as pieces:
            async for piece in pieces:
                yield piece

    async def _checked(self, key: BlobKey, blob: Blob, wanted: int) -> tuple[BlobOpener, Buffer | None]:
        """Check length and last segment; return the whole object as well where little of it is not wanted."""
        layout = Layout(blob.size)
        length, last = layout.length, layout.begin(layout.segments - 1)
        if length <= min(CHUNK, wanted + _WASTE):
            whole = memoryview(await self._objects.whole(blob.object_name))
            return BlobOpener(key.opener(whole[:HEADER_BYTES]), layout, len(whole), whole[last:]), whole
        found = await self._objects.size(blob.object_name)
        if found != length:
            raise DecryptionError
        parts = self._objects.parts(blob.object_name, [(0, HEADER_BYTES), (last, length)])
        header, end = [part async for part in parts]
        return BlobOpener(key.opener(header), layout, found, end), None

    async def _plain(
        self, opener: BlobOpener, whole: Buffer | None, blob: Blob, start: int, stop: int
    ) -> AsyncGenerator[bytes]:
        if whole is None:
            async with aclosing(self._pieces(opener, blob, start, stop)) as pieces:
                async for piece in pieces:
                    yield piece
        elif start < stop:
            plain: bytes = await _off_loop(len(whole), partial(opener.open, 0, whole[HEADER_BYTES:]))
            yield plain[start:stop]

    async def _pieces(self, opener: BlobOpener, blob: Blob, start: int, stop: int) -> AsyncGenerator[bytes]:
        layout = Layout(blob.size)
        if start >= stop:
            return
        runs = list(_runs(layout.segment_of(start), layout.segment_of(stop - 1) + 1))
        spans = [(layout.begin(first), layout.begin(behind)) for first, behind in runs]
        under_way: deque[tuple[int, asyncio.Future[bytes]]] = deque()
        async with aclosing(self._fetched(blob, layout, spans)) as parts:
            try:
                # What comes next is decrypted while the caller is busy with what it has.
                for first, _ in runs:
                    part = await anext(parts)
                    under_way.append((first, _begin(len(part), partial(opener.open, first, part))))
                    if len(under_way) > 1:
                        yield await _taken(under_way, layout, start, stop)
                yield await _taken(under_way, layout, start, stop)
            finally:
                for _, left in under_way:
                    left.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _fetched(self, blob: Blob, layout: Layout, spans: list[tuple[int, int]]) -> AsyncGenerator[Buffer]:
        try:
            async with aclosing(self._objects.parts(blob.object_name, spans)) as parts:
                for begin, end in spans:
                    part = await anext(parts)
                    if len(part) != end - begin:
                        # Cut at a segment's end since its own end was checked: what is left is genuine, but not all.
                        raise DecryptionError
                    yield part
        except ObjectsTrouble:
            # A range behind the end of an object that was cut is trouble to the library.
            if await self._objects.size(blob.object_name) != layout.length:
                raise DecryptionError from None
            raise


class _Writing:
    """Encrypt one stream, and take its MAC on the way."""

    def __init__(self, key: BlobKey) -> None:
        self._encrypter = key.encrypter()
        self.mac: ContentMac = key.mac()
        self.size = 0

    def at_once(self, plain: bytes) -> Buffer:
        return b"".join((self._advance(plain), self._encrypter.finish()))

    async def stream(self, first: bytes, second: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[Buffer]:
        for chunk in (first, second):
            yield await asyncio.to_thread(self._advance, chunk)
        async for chunk in rest:
            yield await asyncio.to_thread(self._advance, chunk)
        yield self._encrypter.finish()

    def _advance(self, chunk: bytes) -> Buffer:
        self.size += len(chunk)
        self.mac.update(chunk)
        return self._encrypter.update(chunk)


def _too_long() -> TwinlockError:
    return TwinlockError("the upload took longer than it may", hint="begin it again")


async def gathered(chunks: AsyncIterator[bytes], least: int = CHUNK) -> AsyncGenerator[bytes]:
    """Yield the same bytes in chunks of at least `least`, but for the last."""
    held: list[bytes] = []
    size = 0
    async for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= least:
            yield held[0] if len(held) == 1 else b"".join(held)
            held, size = [], 0
    if size:
        yield b"".join(held)


def _runs(first: int, behind: int) -> Iterator[tuple[int, int]]:
    """Cut a run of segments into pieces of bounded size."""
    while first < behind:
        end = min(behind, (first // _PIECE + 1) * _PIECE)
        yield first, end
        first = end


async def _taken(under_way: "deque[tuple[int, asyncio.Future[bytes]]]", layout: Layout, start: int, stop: int) -> bytes:
    first, decrypting = under_way.popleft()
    plain, begin = await decrypting, layout.plain_begin(first)
    if begin >= start and begin + len(plain) <= stop:
        return plain
    return plain[max(0, start - begin) : stop - begin]


def _begin(size: int, work: Any) -> "asyncio.Future[Any]":
    """Begin work in a thread, or do it here where it is small."""
    loop = asyncio.get_running_loop()
    if size > _INLINE:
        return loop.run_in_executor(None, work)
    done: asyncio.Future[Any] = loop.create_future()
    try:
        done.set_result(work())
    except DecryptionError as error:
        done.set_exception(error)
    return done


async def _off_loop(size: int, work: Any) -> Any:
    return await asyncio.to_thread(work) if size > _INLINE else work()
