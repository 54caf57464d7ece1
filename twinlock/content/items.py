"""The content API for a provider's own services: put, get, list and delete the items of a mailbox.

What an item holds never lies anywhere in the clear: it is encrypted under the mailbox's newest key before it is stored,
and handed out only when the custodian opens the key it is under.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.sql import Select

from twinlock.content import containers
from twinlock.content.adding import Adder, Draft
from twinlock.content.containers import Container
from twinlock.content.deleting import delete_items
from twinlock.content.keyring import Keyring
from twinlock.content.objects import ObjectGone, Objects
from twinlock.content.plain import Plain
from twinlock.content.sealing import Stored, read_stream, read_whole
from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import Asker
from twinlock.errors import NotFound
from twinlock.keys.context import ItemContext
from twinlock.keys.items import ItemFormat
from twinlock.store.tables.content import items
from twinlock.store.unit import Cause, StaleRead, Store

_PAGE = 500
_MOVED_ON = (ObjectGone, StaleRead, GenerationGone)


class Items:
    """Put, get, list and delete the items of mailboxes."""

    def __init__(self, store: Store, objects: Objects, keyring: Keyring, adder: Adder) -> None:
        self._store = store
        self._clock = store.clock
        self._objects = objects
        self._keyring = keyring
        self._adder = adder

    async def put(self, address: str, plain: Plain, asker: Asker) -> str:
        """Add one item and return its id; equal items are all kept."""
        async with self._store.read() as reader:
            mailbox = await containers.find_mailbox(reader, address)
        (item,) = await self._adder.add(mailbox.id, [Draft(plain, occurrence=None)], asker)
        return item

    async def get(self, address: str, item_id: str, asker: Asker) -> AsyncIterator[bytes]:
        """Yield an item's bytes, authenticated before they are handed out.

        Raise `NotFound`, `KeyRefused` or `KeyNotYet` before the first chunk; a large item asks the custodian again
        every 60 s, and ends in such an error where the key was taken away meanwhile.
        """
        async with self._store.read() as reader:
            mailbox = await containers.find_mailbox(reader, address)
        async for chunk in self.content(mailbox, await self._find(mailbox, item_id), asker):
            yield chunk

    async def list(self, address: str) -> AsyncIterator[Stored]:
        """Yield the items of a mailbox in the order in which they came, without their content."""
        async with self._store.read() as reader:
            mailbox = await containers.find_mailbox(reader, address)
        async for item in self.listing(mailbox):
            yield item

    async def listing(self, mailbox: Container) -> AsyncIterator[Stored]:
        """Yield the items of a mailbox a page at a time: memory does not grow, and no reader holds up writers."""
        last = ""
        while True:
            query = _described(mailbox).where(items.c.id > last).order_by(items.c.id).limit(_PAGE)
            async with self._store.read() as reader:
                page = [Stored.of(row) for row in await reader.rows(query)]
            for item in page:
                yield item
            if len(page) < _PAGE:
                return
            last = page[-1].id

    async def content(self, mailbox: Container, item: Stored, asker: Asker) -> AsyncIterator[bytes]:
        """Yield the bytes of an item; where its key or object is gone, its row is read again once (law 3)."""
        chunks = self._chunks(mailbox, item, asker)
        try:
            first = await anext(chunks, None)
        except _MOVED_ON:
            chunks = self._chunks(mailbox, await self._find(mailbox, item.id), asker)
            first = await anext(chunks, None)
        if first is not None:
            yield first
        async for chunk in chunks:
            yield chunk

    async def _chunks(self, mailbox: Container, item: Stored, asker: Asker) -> AsyncIterator[bytes]:
        lent = await self._keyring.lend(mailbox.ref(item.generation), asker)
        cipher, until = lent.cipher, lent.until
        context = ItemContext(mailbox.tenant_id, mailbox.id, item.generation, item.id, item.version)
        if item.object_name is None:
            yield cipher.decrypt(await self._body(mailbox, item), context)
        elif item.format is ItemFormat.AEAD:
            yield cipher.decrypt(await read_whole(self._objects, item.object_name), context)
        else:
            async for chunk in read_stream(self._objects, item.object_name, cipher, context):
                if self._clock.monotonic() >= until:
                    until = await self._ask_again(mailbox, item.id, asker)
                yield bytes(chunk)

    async def _ask_again(self, mailbox: Container, item_id: str, asker: Asker) -> float:
        # The item may have moved to a newer key meanwhile: whether this reader may still read is asked of that one.
        now = await self._find(mailbox, item_id)
        try:
            return (await self._keyring.lend(mailbox.ref(now.generation), asker)).until
        except GenerationGone:
            now = await self._find(mailbox, item_id)
            return (await self._keyring.lend(mailbox.ref(now.generation), asker)).until

    async def _body(self, mailbox: Container, item: Stored) -> bytes:
        async with self._store.read() as reader:
            body = await reader.scalar(
                select(items.c.body).where(
                    items.c.container_id == mailbox.id, items.c.id == item.id, items.c.version == item.version
                )
            )
        if not isinstance(body, bytes):
            raise StaleRead
        return body

    async def delete(self, address: str, item_ids: Sequence[str], cause: Cause) -> int:
        """Delete items, all or none, also while a step re-encrypts them; their objects are swept later."""
        async with self._store.read() as reader:
            mailbox = await containers.find_mailbox(reader, address)
        async with self._store.begin(cause) as unit:
            locked = await containers.lock(unit, mailbox.id)
            gone = await delete_items(unit, locked, set(item_ids)) if locked else set()
            missing = sorted(set(item_ids) - gone)
            if missing:
                raise NotFound(
                    f"{address} has no item {', '.join(missing)}", hint=f"list them: twinlock mailbox items {address}"
                )
        return len(gone)

    async def _find(self, mailbox: Container, item_id: str) -> Stored:
        async with self._store.read() as reader:
            row = await reader.row(_described(mailbox).where(items.c.id == item_id))
        if row is None:
            raise NotFound(
                f"{mailbox.name} has no item {item_id}", hint=f"list them: twinlock mailbox items {mailbox.name}"
            )
        return Stored.of(row)


def _described(mailbox: Container) -> Select[*tuple[Any, ...]]:
    described = [column for column in items.c if column.name != "body"]
    return select(*described).where(items.c.container_id == mailbox.id)
