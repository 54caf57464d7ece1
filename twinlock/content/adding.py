"""Add items to a container: each exactly once, under its newest key, never under a key that is going (law 3)."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import and_, func, insert, or_, select, update

from twinlock.content import containers
from twinlock.content.containers import Container
from twinlock.content.keyring import Keyring
from twinlock.content.objects import Objects, claim_intents
from twinlock.content.plain import Plain
from twinlock.content.sealing import Sealed, in_thread, write_stream
from twinlock.content.settings import ContentSettings
from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import Asker
from twinlock.errors import NotFound, TwinlockError
from twinlock.keys.context import ItemContext
from twinlock.keys.items import MAX_ITEMS_PER_GENERATION, ItemCipher, ItemFormat, format_for
from twinlock.store.tables.content import container_keys, items
from twinlock.store.unit import Reader, StaleRead, Store, Unit, new_id

_TRIES = 20


@dataclass(slots=True)
class Draft:
    """Hold an item that is to be added.

    `occurrence` numbers identical messages within one source, from 0, so that a second import of the source adds
    nothing; None adds the item whatever is there already.
    """

    plain: Plain
    occurrence: int | None
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class _Marked:
    draft: Draft
    macs: Mapping[int, bytes]  # by live generation


class Adder:
    """Add bounded batches of items to containers."""

    def __init__(self, store: Store, objects: Objects, keyring: Keyring, settings: ContentSettings) -> None:
        self._store = store
        self._objects = objects
        self._keyring = keyring
        self._settings = settings

    async def add(self, container_id: str, drafts: Sequence[Draft], asker: Asker) -> list[str]:
        """Add what is not there yet, in one transaction, and return the ids of the items added."""
        for _ in range(_TRIES):
            try:
                return await self._try_to_add(container_id, drafts, asker)
            except (StaleRead, GenerationGone):
                continue
        raise TwinlockError("the container's keys keep changing", hint="run the command again")

    async def _try_to_add(self, container_id: str, drafts: Sequence[Draft], asker: Asker) -> list[str]:
        seen = await self._container(container_id)
        ciphers = {number: await self._keyring.open(seen.ref(number), asker) for number in seen.live}
        marked = await asyncio.to_thread(_mark, drafts, ciphers)
        async with self._store.read() as reader:
            fresh = await _absent(reader, seen, marked)
        sealed = await self._seal(seen, fresh, ciphers[seen.newest.number], asker)
        async with self._store.begin(asker.cause) as unit:
            locked = await containers.lock_as_read(unit, seen)
            if len(await _absent(unit, locked, fresh)) != len(fresh):
                raise StaleRead
            await _insert(unit, locked, fresh, sealed)
        return [mark.draft.id for mark in fresh]

    async def _container(self, container_id: str) -> Container:
        async with self._store.read() as reader:
            seen = await containers.load(reader, container_id)
        if seen is None:
            raise NotFound("the mailbox was removed meanwhile")
        if seen.newest.encrypted >= MAX_ITEMS_PER_GENERATION:
            raise TwinlockError(
                f"the key of {seen.name} has encrypted {seen.newest.encrypted} items, as many as one key may",
                hint=f"give it a new one: twinlock mailbox move {seen.name}",
            )
        return seen

    async def _seal(self, seen: Container, fresh: Sequence[_Marked], cipher: ItemCipher, asker: Asker) -> list[Sealed]:
        outside = [mark for mark in fresh if mark.draft.plain.size > self._settings.inline_bytes]
        inside = [mark for mark in fresh if mark.draft.plain.size <= self._settings.inline_bytes]
        sealed = await asyncio.to_thread(lambda: [_seal_inline(seen, mark, cipher) for mark in inside])
        names = await self._objects.announce(seen.id, len(outside), asker.cause)
        for mark, name in zip(outside, names, strict=True):
            sealed.append(await self._seal_object(seen, mark, cipher, name))
        return sealed

    async def _seal_object(self, seen: Container, mark: _Marked, cipher: ItemCipher, name: str) -> Sealed:
        plain, context, mac = mark.draft.plain, _context(seen, mark), mark.macs[seen.newest.number]
        form = format_for(plain.size)
        if form is ItemFormat.STREAM:
            running = cipher.mac()
            await write_stream(self._objects, name, cipher, context, in_thread(plain.chunks()), running)
            if running.digest() != mac:
                raise TwinlockError("the source changed while it was read", hint="import it again")
        else:
            await self._objects.write(name, await asyncio.to_thread(_encrypt, plain, cipher, context))
        return Sealed(context, plain.kind, plain.size, form, mac, object_name=name)


def _context(seen: Container, mark: _Marked) -> ItemContext:
    return ItemContext(seen.tenant_id, seen.id, seen.newest.number, mark.draft.id, 1)


def _seal_inline(seen: Container, mark: _Marked, cipher: ItemCipher) -> Sealed:
    plain, context = mark.draft.plain, _context(seen, mark)
    body = _encrypt(plain, cipher, context)
    return Sealed(context, plain.kind, plain.size, ItemFormat.AEAD, mark.macs[seen.newest.number], body=body)


def _encrypt(plain: Plain, cipher: ItemCipher, context: ItemContext) -> bytes:
    return cipher.encrypt(plain.read(), context)


def _mark(drafts: Sequence[Draft], ciphers: Mapping[int, ItemCipher]) -> list[_Marked]:
    return [_Marked(draft, _macs(draft.plain, ciphers)) for draft in drafts]


def _macs(plain: Plain, ciphers: Mapping[int, ItemCipher]) -> dict[int, bytes]:
    running = {number: cipher.mac() for number, cipher in ciphers.items()}
    for chunk in plain.chunks():
        for mac in running.values():
            mac.update(chunk)
    return {number: mac.digest() for number, mac in running.items()}


async def _absent(reader: Reader, seen: Container, marked: Sequence[_Marked]) -> list[_Marked]:
    """Return those that no live generation holds yet; a message may lie under any of them while it is re-encrypted."""
    present: set[tuple[int, bytes, int]] = set()
    for number in seen.live:
        macs = [mark.macs[number] for mark in marked if mark.draft.occurrence is not None]
        rows = await reader.rows(
            select(items.c.generation, items.c.import_mac, items.c.occurrence).where(
                items.c.container_id == seen.id, items.c.generation == number, items.c.import_mac.in_(macs)
            )
        )
        present.update((row.generation, row.import_mac, row.occurrence) for row in rows)
    return [
        mark
        for mark in marked
        if not any((number, mac, mark.draft.occurrence) in present for number, mac in mark.macs.items())
    ]


async def _next_occurrences(unit: Unit, seen: Container, marked: Iterable[_Marked]) -> dict[str, int]:
    """Number every item: as its source does, or after all equal ones that are there."""
    numbers: dict[str, int] = {}
    taken: dict[bytes, int] = {}
    for mark in marked:
        if mark.draft.occurrence is not None:
            numbers[mark.draft.id] = mark.draft.occurrence
            continue
        newest = mark.macs[seen.newest.number]
        if newest not in taken:
            under_any = or_(
                *(and_(items.c.generation == number, items.c.import_mac == mac) for number, mac in mark.macs.items())
            )
            highest = await unit.scalar(
                select(func.max(items.c.occurrence)).where(items.c.container_id == seen.id, under_any)
            )
            taken[newest] = -1 if highest is None else highest
        taken[newest] += 1
        numbers[mark.draft.id] = taken[newest]
    return numbers


async def _insert(unit: Unit, locked: Container, fresh: Sequence[_Marked], sealed: Sequence[Sealed]) -> None:
    if not sealed:
        return
    occurrences = await _next_occurrences(unit, locked, fresh)
    await unit.execute(
        insert(items),
        [
            {
                "container_id": locked.id,
                "id": seal.context.item,
                "generation": seal.context.generation,
                "version": seal.context.version,
                "kind": seal.kind,
                "size": seal.size,
                "format": seal.format,
                "object_name": seal.object_name,
                "import_mac": seal.import_mac,
                "occurrence": occurrences[seal.context.item],
                "created_at": unit.clock.now(),
                "body": seal.body,
            }
            for seal in sealed
        ],
    )
    keys = container_keys.c
    await unit.execute(
        update(container_keys)
        .where(keys.container_id == locked.id, keys.generation == locked.newest.number)
        .values(item_count=keys.item_count + len(sealed), encrypted_count=keys.encrypted_count + len(sealed))
    )
    await claim_intents(unit, [seal.object_name for seal in sealed if seal.object_name is not None])
