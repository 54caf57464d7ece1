"""Encrypt items anew, from the key generation that each lies under to the newest, with no transaction open.

Reading, encrypting and writing objects overlap: a step takes as long as the slowest of them, not as their sum. What was
read is dropped as soon as it is encrypted, so that memory holds one step's new ciphertext and two parts of the old.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from twinlock.content.containers import Container
from twinlock.content.objects import ObjectGone, Objects
from twinlock.content.sealing import Sealed, Stored, read_stream, read_whole, write_stream
from twinlock.content.settings import MIB
from twinlock.keys.context import ItemContext
from twinlock.keys.errors import DecryptionError
from twinlock.keys.items import ItemCipher, ItemFormat
from twinlock.store.tables.content import items
from twinlock.store.unit import Cause, Store

_PART_BYTES = 4 * MIB
_LANES = 2  # one reads its part while the other one encrypts
_OBJECTS = 4


@dataclass(slots=True)
class Moved:
    """Hold items with their new ciphertext, and the ids of those that do not decrypt or whose object is lost.

    An item that was deleted or moved since it was listed is in neither.
    """

    pairs: list[tuple[Stored, Sealed]] = field(default_factory=list, repr=False)
    damaged: list[str] = field(default_factory=list)

    def add(self, other: "Moved") -> None:
        """Take over what another one holds."""
        self.pairs += other.pairs
        self.damaged += other.damaged


class Mover:
    """Encrypt items of one container, as it was read, with the ciphers of their generations."""

    def __init__(self, store: Store, objects: Objects, seen: Container, ciphers: Mapping[int, ItemCipher]) -> None:
        self._store = store
        self._objects = objects
        self._seen = seen
        self._ciphers = ciphers
        self._newest = ciphers[seen.newest.number]
        self._parallel = asyncio.Semaphore(_OBJECTS)

    async def move(self, rows: Sequence[Stored], cause: Cause) -> Moved:
        """Encrypt all of them that are still there."""
        moved = Moved()
        parts = list(_parts([row for row in rows if row.object_name is None]))
        outside = [row for row in rows if row.object_name is not None]
        try:
            async with asyncio.TaskGroup() as group:
                for lane in range(_LANES):
                    group.create_task(self._move_inline(parts[lane::_LANES], moved))
                names = await self._objects.announce(self._seen.id, len(outside), cause)
                for row, name in zip(outside, names, strict=True):
                    group.create_task(self._move_object(row, name, moved))
        except ExceptionGroup as failed:
            # Callers tell failures apart by class; whatever else failed beside the first stays in its cause.
            raise failed.exceptions[0] from failed
        return moved

    async def _move_inline(self, parts: Sequence[Sequence[Stored]], moved: Moved) -> None:
        for part in parts:
            bodies = await self._read(part)
            moved.add(await asyncio.to_thread(self._seal, part, bodies))

    async def _read(self, part: Sequence[Stored]) -> dict[tuple[str, int], bytes]:
        # By range: the items in between that do not belong here are those under the newest key already.
        query = select(items.c.id, items.c.version, items.c.body).where(
            items.c.container_id == self._seen.id,
            items.c.id.between(part[0].id, part[-1].id),
            items.c.generation != self._seen.newest.number,
            items.c.body.is_not(None),
        )
        async with self._store.read() as reader:
            return {(row.id, row.version): row.body for row in await reader.rows(query)}

    def _seal(self, part: Sequence[Stored], bodies: dict[tuple[str, int], bytes]) -> Moved:
        moved = Moved()
        for row in part:
            body = bodies.pop((row.id, row.version), None)
            if body is None:
                continue
            was, will = self._contexts(row)
            try:
                plaintext = self._ciphers[row.generation].decrypt(body, was)
            except DecryptionError:
                moved.damaged.append(row.id)
                continue
            mac, sealed = self._newest.import_mac(plaintext), self._newest.encrypt(plaintext, will)
            moved.pairs.append((row, Sealed(will, row.kind, row.size, row.format, mac, body=sealed)))
        return moved

    async def _move_object(self, row: Stored, name: str, moved: Moved) -> None:
        try:
            async with self._parallel:
                moved.pairs.append((row, await self._sealed_object(row, name)))
        except ObjectGone:
            if await self._is_as_listed(row):
                moved.damaged.append(row.id)
        except DecryptionError:
            moved.damaged.append(row.id)

    async def _is_as_listed(self, row: Stored) -> bool:
        # An object is deleted only after its row moved on: where the row did not, the object is lost.
        query = select(items.c.version).where(items.c.container_id == self._seen.id, items.c.id == row.id)
        async with self._store.read() as reader:
            return bool(await reader.scalar(query) == row.version)

    async def _sealed_object(self, row: Stored, name: str) -> Sealed:
        source, old, mac = row.object_name or "", self._ciphers[row.generation], self._newest.mac()
        was, will = self._contexts(row)
        if row.format is ItemFormat.STREAM:
            plain = read_stream(self._objects, source, old, was)
            await write_stream(self._objects, name, self._newest, will, plain, mac)
        else:
            plaintext = old.decrypt(await read_whole(self._objects, source), was)
            mac.update(plaintext)
            await self._objects.write(name, self._newest.encrypt(plaintext, will))
        return Sealed(will, row.kind, row.size, row.format, mac.digest(), object_name=name)

    def _contexts(self, row: Stored) -> tuple[ItemContext, ItemContext]:
        """Return where an item is and where it goes."""
        tenant, container = self._seen.tenant_id, self._seen.id
        was = ItemContext(tenant, container, row.generation, row.id, row.version)
        return was, ItemContext(tenant, container, self._seen.newest.number, row.id, row.version + 1)


def _parts(rows: Sequence[Stored]) -> Iterator[list[Stored]]:
    part: list[Stored] = []
    size = 0
    for row in rows:
        if part and size + row.size > _PART_BYTES:
            yield part
            part, size = [], 0
        part.append(row)
        size += row.size
    if part:
        yield part
