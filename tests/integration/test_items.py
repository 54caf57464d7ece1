"""Items: put, get, list, delete; small ones in the row, larger ones as objects, the largest as streams."""

import os
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from schemas.identifiers import MailboxKind
from twinlock.content.mailboxes import NewMailbox
from twinlock.content.plain import BytesPlain
from twinlock.crashpoints import CrashPoint, arm
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import USER, Asker
from twinlock.errors import AlreadyExists, NotFound
from twinlock.keys.errors import DecryptionError
from twinlock.store.tables.content import container_keys, containers, items, object_intents, superseded_objects
from twinlock.store.unit import Cause

if TYPE_CHECKING:
    from tests.integration.conftest import World

A = "a@acme.example"
CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
SIZES = (0, 1, 2048, 2049, 1024 * 1024, 1024 * 1024 + 1, 3 * 1024 * 1024)


@pytest.mark.parametrize("size", SIZES)
async def test_content_comes_back(world: "World", size: int) -> None:
    """An item of any size comes back byte for byte, wherever it lies."""
    body = os.urandom(size)
    (item,) = await world.mailbox(A, body)

    assert body == await world.read(A, item)


async def test_placement(world: "World") -> None:
    """An item up to the inline size lies in its row, a larger one in exactly one object, and no intent is left."""
    await world.mailbox(A, b"x" * 2048, b"y" * 2049)
    async with world.store.read() as reader:
        rows = await reader.rows(select(items.c.body, items.c.object_name).order_by(items.c.id))
        intents = await reader.rows(select(object_intents))

    assert [True, False] == [row.body is not None for row in rows]
    assert {rows[1].object_name} == world.object_names()
    assert [] == intents


async def test_equal_items_are_kept(world: "World") -> None:
    """Two equal items put by the API are two items."""
    await world.mailbox(A, b"same", b"same")

    assert [b"same", b"same"] == list((await world.content(A)).values())


async def test_delete(world: "World") -> None:
    """A deleted item is gone, its object is superseded and the counts are exact; unknown ids delete nothing at all."""
    small, large = await world.mailbox(A, b"small", b"l" * 5000)
    with pytest.raises(NotFound):
        await world.items.delete(A, [small, "unknown"], CAUSE)

    assert 1 == await world.items.delete(A, [large], CAUSE)
    assert {small: b"small"} == await world.content(A)
    async with world.store.read() as reader:
        assert 1 == await reader.scalar(select(container_keys.c.item_count))
        assert world.object_names() == {row.name for row in await reader.rows(select(superseded_objects))}


async def test_remove_mailbox(world: "World") -> None:
    """A removed mailbox leaves no row, and its objects to the sweeper after `objects.keep`."""
    await world.mailbox(A, b"small", b"l" * 5000)
    await world.mailbox("b@acme.example", b"other")

    assert 2 == await world.mailboxes.remove(A, CAUSE)
    assert 0 == await world.sweeper.sweep(CAUSE)
    world.clock.advance(world.settings.objects_keep + 1)
    assert 1 == await world.sweeper.sweep(CAUSE)
    assert set() == world.object_names()
    with pytest.raises(NotFound):
        await world.mailboxes.show(A)
    assert [b"other"] == list((await world.content("b@acme.example")).values())


async def test_law_12_removal_is_bounded(world: "World") -> None:
    """A removal takes at most as many items and bytes in one transaction as a step does, and at least one item."""
    await world.mailbox(A, *[b"x" * 100] * 10, *[b"l" * 40_000] * 2)
    commits: list[int] = []
    arm(CrashPoint.AFTER_COMMIT, lambda: commits.append(1))

    assert 12 == await world.mailboxes.remove(A, CAUSE)
    assert [1, 1, 1] == commits  # 8 small ones, 2 with a large one, the last one


async def test_mailbox_twice(world: "World") -> None:
    """A second mailbox of the same address is refused."""
    await world.mailbox(A)
    with pytest.raises(AlreadyExists):
        await world.mailboxes.add(NewMailbox(A, "acme", MailboxKind.USER, licensed=True), ASKER)


async def test_refused_reads_give_nothing(world: "World") -> None:
    """law 7: the custodian is asked before any content is read, and a refusal gives out no byte."""
    (item,) = await world.mailbox(A, b"secret")
    world.custodian.refusing.add("service-policy")

    with pytest.raises(KeyRefused):
        await world.read(A, item)


async def test_moved_rows_fail(world: "World") -> None:
    """law 2: an item's ciphertext moved to another item's row does not decrypt."""
    first, second = await world.mailbox(A, b"first!", b"second")
    async with world.store.begin(CAUSE) as unit:
        body = await unit.scalar(select(items.c.body).where(items.c.id == first))
        await unit.execute(update(items).where(items.c.id == second).values(body=body))

    with pytest.raises(DecryptionError):
        await world.read(A, second)


async def test_long_stream_asks_again(world: "World") -> None:
    """A long stream asks the custodian again every 60 s, and ends where the key was taken away meanwhile."""
    (item,) = await world.mailbox(A, os.urandom(4 * 1024 * 1024))
    chunks = world.items.get(A, item, ASKER)
    await anext(chunks)
    world.custodian.refusing.add("service-policy")
    world.clock.advance(61)

    with pytest.raises(KeyRefused):
        async for _ in chunks:
            pass


async def test_law_8_stream_with_a_key_at_hand(world: "World") -> None:
    """Law 8: a stream that begins with a key that is 59 s old asks again a second later, not after a minute."""
    small, large = await world.mailbox(A, b"1", os.urandom(4 * 1024 * 1024))
    reading = world.items
    assert [b"1"] == [chunk async for chunk in reading.get(A, small, ASKER)]
    world.clock.advance(59)
    chunks = reading.get(A, large, ASKER)
    await anext(chunks)
    world.custodian.refusing.add("service-policy")
    world.clock.advance(1)

    with pytest.raises(KeyRefused):
        await anext(chunks)


async def test_list_pages(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing longer than a page is complete and in order of arrival."""
    monkeypatch.setattr("twinlock.content.items._PAGE", 2)
    ids = await world.mailbox(A, *(bytes([n]) for n in range(5)))

    assert ids == [item.id async for item in world.items.list(A)]


async def test_put_into_removed_mailbox(world: "World") -> None:
    """Putting an item into a mailbox that does not exist names it."""
    with pytest.raises(NotFound, match="there is no mailbox nobody"):
        await world.items.put("nobody@acme.example", BytesPlain("eml", b"x"), ASKER)


async def test_limit_of_a_key(world: "World") -> None:
    """A key that has encrypted as many items as one key may refuses more, and says how to get a new one."""
    await world.mailbox(A, b"x")
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(container_keys).values(encrypted_count=2**31))
        assert 1 == await unit.scalar(select(containers.c.newest_generation))

    with pytest.raises(Exception, match="as many as one key may"):
        await world.items.put(A, BytesPlain("eml", b"x"), ASKER)
