"""The re-encrypt step: a bounded number of items from older key generations to the newest.

`plan` reads, decrypts and encrypts with no transaction open; `apply` is one short transaction that moves the rows
which still are what `plan` read. An item deleted meanwhile is left out; one added meanwhile is under the newest key.
An item that does not decrypt stays where it is, is named, and stops nobody else.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Row

from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.content.keyring import Keyring
from twinlock.content.objects import ObjectGone, Objects, claim_intents, supersede
from twinlock.content.sealing import Sealed, Stored, read_stream, read_whole, write_stream
from twinlock.content.settings import ContentSettings
from twinlock.custody.port import Asker
from twinlock.keys.context import ItemContext
from twinlock.keys.errors import DecryptionError
from twinlock.keys.items import ItemCipher, ItemFormat
from twinlock.store.tables.content import container_keys, items
from twinlock.store.unit import StaleRead, Store, Unit


@dataclass(frozen=True, slots=True)
class Step:
    """Hold a prepared step: the container as it was read, its re-encrypted items, and where the next step begins.

    `cursor` is None when there was nothing left behind the last one; `damaged` names items that do not decrypt.
    """

    seen: Container
    moved: tuple[tuple[Stored, Sealed], ...] = field(repr=False)
    damaged: tuple[str, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Applied:
    """Say what a step did: items moved, bytes of them, items that stay because they do not decrypt.

    `finished` says that every item is under the newest key now.
    """

    items: int
    bytes: int
    damaged: tuple[str, ...]
    finished: bool


class Reencrypter:
    """Move a container's items to its newest key, one bounded step at a time."""

    def __init__(self, store: Store, objects: Objects, keyring: Keyring, settings: ContentSettings) -> None:
        self._store = store
        self._objects = objects
        self._keyring = keyring
        self._settings = settings

    async def plan(self, container_id: str, cursor: str, asker: Asker) -> Step | None:
        """Prepare the next step behind `cursor`, or return None where the container was removed."""
        async with self._store.read() as reader:
            seen = await containers.load(reader, container_id)
            if seen is None:
                return None
            rows = await reader.rows(self._next(seen, cursor))
            chosen = self._bounded([Stored.of(row) for row in rows])
            bodies = await reader.rows(_bodies(seen, chosen))
        ciphers = await self._ciphers(seen, chosen, asker)
        inline = {row.id: row.body for row in bodies}
        moved = await asyncio.to_thread(_move_inline, seen, chosen, inline, ciphers)
        moved += await self._move_objects(seen, [row for row in chosen if row.object_name], ciphers, asker)
        whole = {row.id for row, _ in moved}
        damaged = tuple(row.id for row in chosen if row.id not in whole)
        return Step(seen, tuple(moved), damaged, chosen[-1].id if chosen else None)

    def _next(self, seen: Container, cursor: str) -> Any:
        return (
            select(*(items.c[name] for name in _COLUMNS))
            .where(items.c.container_id == seen.id, items.c.id > cursor, items.c.generation != seen.newest.number)
            .order_by(items.c.id)
            .limit(self._settings.batch_items)
        )

    def _bounded(self, rows: Sequence[Stored]) -> list[Stored]:
        """Take rows up to the byte bound, and always at least one."""
        taken, total = 0, 0
        for row in rows:
            total += row.size
            if taken and total > self._settings.batch_bytes:
                break
            taken += 1
        return list(rows[:taken])

    async def _ciphers(self, seen: Container, chosen: Sequence[Stored], asker: Asker) -> dict[int, ItemCipher]:
        wanted = {row.generation for row in chosen} | {seen.newest.number}
        return {number: await self._keyring.open(seen.ref(number), asker) for number in sorted(wanted)}

    async def _move_objects(
        self, seen: Container, rows: Sequence[Stored], ciphers: Mapping[int, ItemCipher], asker: Asker
    ) -> list[tuple[Stored, Sealed]]:
        names = await self._objects.announce(seen.id, len(rows), asker.cause)
        moved = []
        for row, name in zip(rows, names, strict=True):
            try:
                moved.append((row, await self._move_object(seen, row, name, ciphers)))
            except ObjectGone:
                raise StaleRead from None
            except DecryptionError:
                continue
        return moved

    async def _move_object(self, seen: Container, row: Stored, name: str, ciphers: Mapping[int, ItemCipher]) -> Sealed:
        source = row.object_name or ""
        old, new = ciphers[row.generation], ciphers[seen.newest.number]
        was, will = _contexts(seen, row)
        mac = new.mac()
        if row.format is ItemFormat.STREAM:
            await write_stream(self._objects, name, new, will, read_stream(self._objects, source, old, was), mac)
        else:
            plaintext = old.decrypt(await read_whole(self._objects, source), was)
            mac.update(plaintext)
            await self._objects.write(name, new.encrypt(plaintext, will))
        return Sealed(will, row.kind, row.size, row.format, mac.digest(), object_name=name)

    async def apply(self, unit: Unit, step: Step) -> Applied:
        """Commit a step inside the caller's unit, or raise `StaleRead` where the container's keys moved on."""
        locked = await containers.lock_as_read(unit, step.seen)
        moved = await _still_as_read(unit, locked, step.moved)
        if moved:
            await unit.execute(_MOVE, [_row(locked, row, sealed) for row, sealed in moved])
            await _recount(unit, locked, [row for row, _ in moved])
        await claim_intents(unit, [sealed.object_name for _, sealed in moved if sealed.object_name])
        await supersede(unit, [row.object_name for row, _ in moved if row.object_name])
        older = [generation.number for generation in locked.generations[:-1]]
        await generations.destroy_empty(unit, locked, older)
        left = locked.items - locked.newest.items - len(moved)
        return Applied(len(moved), sum(row.size for row, _ in moved), step.damaged, finished=left == 0)


_COLUMNS = ("id", "generation", "version", "kind", "size", "format", "object_name")

# Written by name: executemany with changing keys has to be told apart from the columns it sets.
_MOVE = (
    update(items)
    .where(items.c.container_id == bindparam("at_container"), items.c.id == bindparam("at_id"))
    .values(
        generation=bindparam("to_generation"),
        version=bindparam("to_version"),
        body=bindparam("to_body"),
        object_name=bindparam("to_object"),
        import_mac=bindparam("to_mac"),
    )
)


def _row(locked: Container, row: Stored, sealed: Sealed) -> dict[str, Any]:
    return {
        "at_container": locked.id,
        "at_id": row.id,
        "to_generation": sealed.context.generation,
        "to_version": sealed.context.version,
        "to_body": sealed.body,
        "to_object": sealed.object_name,
        "to_mac": sealed.import_mac,
    }


def _bodies(seen: Container, chosen: Sequence[Stored]) -> Any:
    inline = [row.id for row in chosen if row.object_name is None]
    return select(items.c.id, items.c.body).where(items.c.container_id == seen.id, items.c.id.in_(inline))


def _contexts(seen: Container, row: Stored) -> tuple[ItemContext, ItemContext]:
    """Return where an item is and where it goes."""
    was = ItemContext(seen.tenant_id, seen.id, row.generation, row.id, row.version)
    return was, ItemContext(seen.tenant_id, seen.id, seen.newest.number, row.id, row.version + 1)


def _move_inline(
    seen: Container, rows: Sequence[Stored], bodies: Mapping[str, bytes], ciphers: Mapping[int, ItemCipher]
) -> list[tuple[Stored, Sealed]]:
    new = ciphers[seen.newest.number]
    moved = []
    for row in rows:
        if row.object_name is not None:
            continue
        was, will = _contexts(seen, row)
        try:
            plaintext = ciphers[row.generation].decrypt(bodies[row.id], was)
        except DecryptionError:
            continue
        sealed = Sealed(
            will, row.kind, row.size, row.format, new.import_mac(plaintext), body=new.encrypt(plaintext, will)
        )
        moved.append((row, sealed))
    return moved


async def _still_as_read(
    unit: Unit, locked: Container, moved: Sequence[tuple[Stored, Sealed]]
) -> list[tuple[Stored, Sealed]]:
    """Leave out what was deleted meanwhile: a step updates only rows that still exist at the version it read."""
    rows = await unit.rows(
        select(items.c.id, items.c.version).where(
            items.c.container_id == locked.id, items.c.id.in_([row.id for row, _ in moved])
        )
    )
    present: set[Row[Any] | tuple[str, int]] = {(row.id, row.version) for row in rows}
    return [pair for pair in moved if (pair[0].id, pair[0].version) in present]


async def _recount(unit: Unit, locked: Container, moved: Sequence[Stored]) -> None:
    keys = container_keys.c
    for number in {row.generation for row in moved}:
        count = sum(1 for row in moved if row.generation == number)
        await unit.execute(
            update(container_keys)
            .where(keys.container_id == locked.id, keys.generation == number)
            .values(item_count=keys.item_count - count)
        )
    await unit.execute(
        update(container_keys)
        .where(keys.container_id == locked.id, keys.generation == locked.newest.number)
        .values(item_count=keys.item_count + len(moved), encrypted_count=keys.encrypted_count + len(moved))
    )
