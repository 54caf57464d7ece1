"""The re-encrypt step: a bounded number of items from older key generations to the newest.

`plan` reads, decrypts and encrypts with no transaction open; `apply` is one short transaction that moves the rows
which still are what `plan` read. An item deleted meanwhile is left out; one added meanwhile is under the newest key.
An item that does not decrypt stays where it is, is named, and stops nobody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Row

from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.content.keyring import Keyring
from twinlock.content.moving import Mover
from twinlock.content.objects import Objects, claim_intents, supersede
from twinlock.content.sealing import DESCRIBED, Sealed, Stored, bounded
from twinlock.content.settings import ContentSettings
from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import Asker
from twinlock.keys.items import ItemCipher
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
            chosen = bounded([Stored.of(row) for row in rows], self._settings.batch_bytes)
        mover = Mover(self._store, self._objects, seen, await self._ciphers(seen, chosen, asker))
        moved = await mover.move(chosen, asker.cause)
        return Step(seen, tuple(moved.pairs), tuple(sorted(moved.damaged)), chosen[-1].id if chosen else None)

    def _next(self, seen: Container, cursor: str) -> Any:
        return (
            select(*(items.c[name] for name in DESCRIBED))
            .where(items.c.container_id == seen.id, items.c.id > cursor, items.c.generation != seen.newest.number)
            .order_by(items.c.id)
            .limit(self._settings.batch_items)
        )

    async def _ciphers(self, seen: Container, chosen: Sequence[Stored], asker: Asker) -> dict[int, ItemCipher]:
        wanted = {row.generation for row in chosen} | {seen.newest.number}
        try:
            return {number: await self._keyring.open(seen.ref(number), asker) for number in sorted(wanted)}
        except GenerationGone:
            raise StaleRead from None

    async def apply(self, unit: Unit, step: Step) -> Applied:
        """Commit a step inside the caller's unit, or raise `StaleRead` where the container's keys moved on."""
        locked = await containers.lock_as_read(unit, step.seen)
        moved = await _still_as_read(unit, locked, step.moved)
        if moved:
            await unit.execute(_MOVE, [_row(locked, row, sealed) for row, sealed in moved])
            await _recount(unit, locked, [row for row, _ in moved])
        await claim_intents(unit, [sealed.object_name for _, sealed in moved if sealed.object_name])
        supersede(unit, [row.object_name for row, _ in moved if row.object_name])
        older = [generation.number for generation in locked.generations[:-1]]
        await generations.destroy_empty(unit, locked, older)
        left = locked.items - locked.newest.items - len(moved)
        return Applied(len(moved), sum(row.size for row, _ in moved), step.damaged, finished=left == 0)


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


async def _still_as_read(
    unit: Unit, locked: Container, moved: Sequence[tuple[Stored, Sealed]]
) -> list[tuple[Stored, Sealed]]:
    """Leave out what was deleted meanwhile: a step updates only rows that still exist at the version it read."""
    ids = [row.id for row, _ in moved]
    rows = await unit.rows(
        select(items.c.id, items.c.version).where(
            items.c.container_id == locked.id,
            items.c.id.between(min(ids, default=""), max(ids, default="")),
            items.c.generation != locked.newest.number,
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
