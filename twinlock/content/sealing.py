"""Encrypt one item into its row or its object, and decrypt it from there.

Small items are handled whole, in threads and many at a time; large ones as streams whose memory does not grow.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

from sqlalchemy.engine import Row

from twinlock.content.objects import Objects
from twinlock.content.plain import ItemKind
from twinlock.keys.context import ItemContext
from twinlock.keys.guarded import Buffer
from twinlock.keys.items import ImportMac, ItemCipher, ItemFormat
from twinlock.keys.streaming import StreamDecrypter, StreamEncrypter


@dataclass(frozen=True, slots=True)
class Sealed:
    """Hold an encrypted item as its row will: its content in `body`, or in the object `object_name`."""

    context: ItemContext
    kind: ItemKind
    size: int
    format: ItemFormat
    import_mac: bytes = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    object_name: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """Describe an item's row, without its body."""

    id: str
    generation: int
    version: int
    kind: ItemKind
    size: int
    format: ItemFormat
    object_name: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> "Stored":
        """Read the columns of a row of `items`."""
        return cls(row.id, row.generation, row.version, row.kind, row.size, ItemFormat(row.format), row.object_name)


DESCRIBED = tuple(field.name for field in fields(Stored))


class Sized(Protocol):
    """Describe content of some size."""

    @property
    def size(self) -> int:
        """Return its bytes in the clear."""


SizedT = TypeVar("SizedT", bound=Sized)


def bounded(rows: Sequence[SizedT], most: int) -> list[SizedT]:
    """Take rows up to a bound of bytes, and always at least one."""
    taken, total = 0, 0
    for row in rows:
        total += row.size
        if taken and total > most:
            break
        taken += 1
    return list(rows[:taken])


async def write_stream(
    objects: Objects, name: str, cipher: ItemCipher, context: ItemContext, plain: AsyncIterator[Buffer], mac: ImportMac
) -> None:
    """Encrypt a stream into an announced object, and take its import MAC on the way."""
    await objects.write(name, _encrypted(cipher, context, plain, mac))


async def _encrypted(
    cipher: ItemCipher, context: ItemContext, plain: AsyncIterator[Buffer], mac: ImportMac
) -> AsyncIterator[Buffer]:
    encrypter = StreamEncrypter(cipher.stream_key(), context.encode())

    def advance(chunk: Buffer) -> Buffer:
        mac.update(chunk)
        return encrypter.update(chunk)

    async for chunk in plain:
        yield await asyncio.to_thread(advance, chunk)
    yield await asyncio.to_thread(encrypter.finish)


async def read_stream(objects: Objects, name: str, cipher: ItemCipher, context: ItemContext) -> AsyncIterator[Buffer]:
    """Yield authenticated plaintext of an object in the stream format; a damaged or cut one ends in DecryptionError."""
    decrypter = StreamDecrypter(cipher.stream_key(), context.encode())
    async for chunk in objects.read(name):
        plain = await asyncio.to_thread(decrypter.update, chunk)
        if plain:
            yield plain
    plain = await asyncio.to_thread(decrypter.finish)
    if plain:
        yield plain


async def read_whole(objects: Objects, name: str) -> bytes:
    """Return the ciphertext of an object that is small enough to hold."""
    return b"".join([chunk async for chunk in objects.read(name)])


async def in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what a blocking iterator gives, reading it off the event loop, one ahead of the caller."""
    loop = asyncio.get_running_loop()
    following = loop.run_in_executor(None, next, chunks, None)
    try:
        while (chunk := await following) is not None:
            following = loop.run_in_executor(None, next, chunks, None)
            yield chunk
    finally:
        following.add_done_callback(lambda done: done.cancelled() or done.exception())
