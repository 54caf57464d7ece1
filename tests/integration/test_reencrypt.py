"""The re-encrypt step and the lock that it shares with writers: nothing lost, nothing under an old key."""

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from twinlock.content import containers, generations
from twinlock.content.adding import Draft
from twinlock.content.generations import Switch
from twinlock.content.objects import claim_intents
from twinlock.content.plain import BytesPlain
from twinlock.content.reencrypt import Applied
from twinlock.crashpoints import CrashPoint, arm
from twinlock.custody.port import USER, Asker, service
from twinlock.store.tables.content import container_keys, items, superseded_objects
from twinlock.store.unit import Cause, StaleRead

if TYPE_CHECKING:
    from tests.integration.conftest import World

A = "a@acme.example"
CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
WORKER = Asker(service("reencrypt"), CAUSE)
BODIES = [b"", b"short", os.urandom(2048), os.urandom(5000), os.urandom(1024 * 1024 + 77)]


async def switch(world: "World", policy: str) -> None:
    """Put the mailbox under a policy as an assignment does."""
    async with world.store.read() as reader:
        seen = await containers.find_mailbox(reader, A)
    old = [seen.ref(number) for number in sorted(seen.live)]
    rewrapped = await world.custodian.rewrap_containers(old, policy, WORKER)
    (made,) = await world.custodian.make_container_keys([seen.ref(seen.newest.number + 1)], policy, WORKER)
    async with world.store.begin(CAUSE) as unit:
        await generations.switch_all(unit, [Switch(seen, made, tuple(rewrapped))])


async def step(world: "World", cursor: str = "") -> tuple[Applied, str]:
    """Take one step."""
    async with world.store.read() as reader:
        mailbox = await containers.find_mailbox(reader, A)
    planned = await world.reencrypter.plan(mailbox.id, cursor, WORKER)
    assert planned is not None
    async with world.store.begin(CAUSE) as unit:
        return await world.reencrypter.apply(unit, planned), planned.cursor or ""


async def finish(world: "World") -> int:
    """Take steps until the mailbox is under its newest key; return how many items moved."""
    cursor, moved = "", 0
    for _ in range(100):
        applied, cursor = await step(world, cursor)
        moved += applied.items
        if applied.finished:
            return moved
    raise AssertionError("the re-encryption does not end")


async def live(world: "World") -> dict[int, int]:
    """Return the live generations with their exact counts, checked against the rows."""
    async with world.store.read() as reader:
        mailbox = await containers.find_mailbox(reader, A)
        rows = await reader.rows(select(items.c.generation))
    counts = {generation.number: generation.items for generation in mailbox.generations}
    assert counts == {number: sum(1 for row in rows if row.generation == number) for number in counts}
    return counts


async def test_every_item_moves(world: "World") -> None:
    """Every item comes under the newest key, byte for byte, and the old generation is destroyed at the end."""
    ids = await world.mailbox(A, *BODIES)
    await switch(world, "policy-p")

    assert len(BODIES) == await finish(world)
    assert {2: len(BODIES)} == await live(world)
    assert dict(zip(ids, BODIES, strict=True)) == await world.content(A)


async def test_steps_are_bounded(world: "World") -> None:
    """law 12: a step takes at most as many items and bytes as the settings say, and at least one item."""
    await world.mailbox(A, *(b"x" * 100 for _ in range(20)))
    await switch(world, "policy-p")
    first, cursor = await step(world)
    second, cursor = await step(world, cursor)
    third, _ = await step(world, cursor)

    assert [8, 8, 4] == [first.items, second.items, third.items]
    assert [False, False, True] == [first.finished, second.finished, third.finished]


async def test_large_items_one_at_a_time(world: "World") -> None:
    """law 12: an item above the byte bound is a step of its own."""
    await world.mailbox(A, os.urandom(70 * 1024), os.urandom(70 * 1024))
    await switch(world, "policy-p")
    first, _ = await step(world)

    assert (1, False) == (first.items, first.finished)


async def test_old_objects_are_kept_then_swept(world: "World") -> None:
    """law 14: superseded objects are kept for `objects.keep`, then swept; the current ones stay."""
    await world.mailbox(A, *BODIES)
    before = world.object_names()
    await switch(world, "policy-p")
    await finish(world)
    async with world.store.read() as reader:
        assert before == {row.name for row in await reader.rows(select(superseded_objects))}
    await world.sweeper.sweep(CAUSE)
    assert before < world.object_names()
    world.clock.advance(world.settings.objects_keep + 1)
    await world.sweeper.sweep(CAUSE)

    assert len(before) == len(world.object_names())
    assert not before & world.object_names()
    assert sorted(BODIES) == sorted((await world.content(A)).values())


async def test_late_writer(world: "World") -> None:
    """law 3: a writer that took the old key just before the last step encrypts again under the new; nothing is lost."""
    await world.mailbox(A, b"old")
    taken, go = asyncio.Event(), asyncio.Event()
    objects = world.objects
    announce = objects.announce

    async def slowly(container_id: str, count: int, cause: Cause) -> list[str]:
        if not taken.is_set():
            taken.set()
            await go.wait()
        return await announce(container_id, count, cause)

    objects.announce = slowly  # type: ignore[method-assign]  # holds the writer between its key and its commit
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(world.items.put(A, BytesPlain("eml", b"late"), ASKER))
        await taken.wait()
        await switch(world, "policy-p")
        objects.announce = announce  # type: ignore[method-assign]
        assert (await step(world))[0].finished
        go.set()

    assert {2: 2} == await live(world)
    assert b"late" == await world.read(A, writing.result())


async def test_mail_arriving_meanwhile(world: "World") -> None:
    """Mail that arrives during re-encryption is under the new key at once and is never touched again."""
    await world.mailbox(A, *(bytes([n]) for n in range(10)))
    await switch(world, "policy-p")
    applied, cursor = await step(world)
    late = await world.items.put(A, BytesPlain("eml", b"late"), ASKER)
    rest, _ = await step(world, cursor)

    assert (8, 2, True) == (applied.items, rest.items, rest.finished)
    async with world.store.read() as reader:
        row = await reader.row(select(items.c.generation, items.c.version).where(items.c.id == late))
    assert (2, 1) == tuple(row or ())


async def test_deleted_while_a_step_works(world: "World") -> None:
    """An item deleted between a step's plan and its commit stays deleted, and the counts stay exact."""
    ids = await world.mailbox(A, b"keep", b"gone", os.urandom(5000))
    await switch(world, "policy-p")
    async with world.store.read() as reader:
        mailbox = await containers.find_mailbox(reader, A)
    planned = await world.reencrypter.plan(mailbox.id, "", WORKER)
    assert planned is not None
    await world.items.delete(A, ids[1:], CAUSE)
    async with world.store.begin(CAUSE) as unit:
        applied = await world.reencrypter.apply(unit, planned)

    assert (1, True) == (applied.items, applied.finished)
    assert {ids[0]: b"keep"} == await world.content(A)
    assert {2: 1} == await live(world)
    world.clock.advance(world.settings.intent_seconds + world.settings.objects_keep + 1)
    await world.sweeper.sweep(CAUSE)
    assert set() == world.object_names()


async def test_mailbox_removed_while_a_step_works(world: "World") -> None:
    """A mailbox removed between a step's plan and its commit stays removed."""
    await world.mailbox(A, b"x")
    await switch(world, "policy-p")
    async with world.store.read() as reader:
        mailbox = await containers.find_mailbox(reader, A)
    planned = await world.reencrypter.plan(mailbox.id, "", WORKER)
    assert planned is not None
    await world.mailboxes.remove(A, CAUSE)
    with pytest.raises(StaleRead):
        async with world.store.begin(CAUSE) as unit:
            await world.reencrypter.apply(unit, planned)

    assert await world.reencrypter.plan(mailbox.id, "", WORKER) is None


async def test_two_policies_at_once(world: "World") -> None:
    """An assignment to Q in the middle of a step to P ends under Q, with nothing left under P."""
    await world.mailbox(A, *BODIES)
    await switch(world, "policy-p")
    async with world.store.read() as reader:
        mailbox = await containers.find_mailbox(reader, A)
    planned = await world.reencrypter.plan(mailbox.id, "", WORKER)
    assert planned is not None
    await switch(world, "policy-q")
    with pytest.raises(StaleRead):
        async with world.store.begin(CAUSE) as unit:
            await world.reencrypter.apply(unit, planned)
    await finish(world)

    assert {3: len(BODIES)} == await live(world)
    async with world.store.read() as reader:
        assert ["policy-q"] == [row.policy_id for row in await reader.rows(select(container_keys.c.policy_id))]
    assert sorted(BODIES) == sorted((await world.content(A)).values())


async def test_reader_of_a_destroyed_generation(world: "World") -> None:
    """law 3: a reader that finds its generation gone reads the row again, once, and is served."""
    (item,) = await world.mailbox(A, b"content")
    api = world.items
    async with world.store.read() as reader:
        mailbox = await containers.find_mailbox(reader, A)
    (row,) = [found async for found in api.list(A)]
    await switch(world, "policy-p")
    await finish(world)

    assert b"content" == b"".join([chunk async for chunk in api.content(mailbox, row, ASKER)])
    assert item == row.id


async def test_generation_in_use_stays(world: "World") -> None:
    """law 3: the database itself refuses to destroy a generation while an item is under it."""
    await world.mailbox(A, b"x")
    with pytest.raises(IntegrityError):
        async with world.store.begin(CAUSE) as unit:
            await unit.execute(delete(container_keys))


async def test_damaged_item_stays(world: "World") -> None:
    """law 2: a step leaves a moved ciphertext where it is, names it, and goes on with the others."""
    first, second = await world.mailbox(A, b"first!", b"second")
    async with world.store.begin(CAUSE) as unit:
        body = await unit.scalar(select(items.c.body).where(items.c.id == first))
        await unit.execute(items.update().where(items.c.id == second).values(body=body))
    await switch(world, "policy-p")
    applied, _ = await step(world)

    assert (1, (second,), False) == (applied.items, applied.damaged, applied.finished)
    assert {1: 1, 2: 1} == await live(world)


async def test_lost_object_stays(world: "World") -> None:
    """A step names an item whose object is lost, leaves it where it is, and goes on with the others."""
    lost, _ = await world.mailbox(A, b"lost" * 1000, b"kept" * 1000)
    async with world.store.read() as reader:
        name = await reader.scalar(select(items.c.object_name).where(items.c.id == lost))
    (world.folder / str(name)).unlink()
    await switch(world, "policy-p")
    applied, _ = await step(world)

    assert (1, (lost,), False) == (applied.items, applied.damaged, applied.finished)
    assert {1: 1, 2: 1} == await live(world)


async def test_intent_swept_under_a_writer(world: "World") -> None:
    """law 14: a pointer whose intent the sweeper has taken fails, so that no row points at a swept object."""
    await world.mailbox(A)
    names = await world.objects.announce("somewhere", 1, CAUSE)
    await world.objects.write(names[0], b"content")
    world.clock.advance(world.settings.intent_seconds + 1)
    assert 1 == await world.sweeper.sweep(CAUSE)
    with pytest.raises(StaleRead):
        async with world.store.begin(CAUSE) as unit:
            await claim_intents(unit, names)

    assert set() == world.object_names()


async def test_unfinished_upload_is_swept(world: "World") -> None:
    """law 14: what a killed upload leaves, its staging file included, goes with its intent."""
    (name,) = await world.objects.announce("somewhere", 1, CAUSE)
    staged = world.folder / f"{name}#1"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"half")
    assert 0 == await world.sweeper.sweep(CAUSE)
    world.clock.advance(world.settings.intent_seconds + 1)
    await world.sweeper.sweep(CAUSE)

    assert set() == world.object_names()


class _Killed(BaseException):
    """Stand in for SIGKILL inside one process."""


async def test_sweeper_killed_before_deleting(world: "World") -> None:
    """law 14: a sweeper killed between the transaction and the delete leaves the object to the next sweep."""
    (name,) = await world.objects.announce("somewhere", 1, CAUSE)
    await world.objects.write(name, b"content")
    world.clock.advance(world.settings.intent_seconds + 1)

    def kill() -> None:
        raise _Killed

    arm(CrashPoint.SWEEP_BEFORE_DELETE, kill)
    with pytest.raises(_Killed):
        await world.sweeper.sweep(CAUSE)
    assert {name} == world.object_names()
    arm(CrashPoint.SWEEP_BEFORE_DELETE, lambda: None)
    await world.sweeper.sweep(CAUSE)

    assert set() == world.object_names()


async def test_move_needs_no_rewrap(world: "World") -> None:
    """A move gives a mailbox a new key under the policy that it has; the old one needs no rewrap."""
    await world.mailbox(A, b"x", b"y")
    async with world.store.read() as reader:
        seen = await containers.find_mailbox(reader, A)
    (made,) = await world.custodian.make_container_keys([seen.ref(2)], seen.policy_id, WORKER)
    async with world.store.begin(CAUSE) as unit:
        left = await generations.renew(unit, await containers.lock_as_read(unit, seen), made)

    assert 2 == left
    assert 2 == await finish(world)


async def test_switch_of_an_empty_mailbox(world: "World") -> None:
    """An empty mailbox has nothing to re-encrypt: its old generation goes with the switch."""
    await world.mailbox(A)
    await switch(world, "policy-p")

    assert {2: 0} == await live(world)


async def test_writer_of_a_destroyed_generation(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    """law 3: a writer whose generations were destroyed between its read and its keys starts over and adds its item."""
    await world.mailbox(A, b"old")
    await switch(world, "policy-p")
    adder = world.adder
    look = adder._container

    async def then_finish(container_id: str) -> containers.Container:
        seen = await look(container_id)
        monkeypatch.undo()
        await finish(world)
        return seen

    monkeypatch.setattr(adder, "_container", then_finish)
    async with world.store.read() as reader:
        mailbox = await containers.find_mailbox(reader, A)
    (item,) = await adder.add(mailbox.id, [Draft(BytesPlain("eml", b"new"), 0)], ASKER)

    assert b"new" == await world.read(A, item)


async def test_object_written_after_its_intent_expired(world: "World") -> None:
    """law 14: an object whose intent was swept while it was written is deleted by its writer, who starts over."""
    (name,) = await world.objects.announce("somewhere", 1, CAUSE)
    world.clock.advance(world.settings.intent_seconds + 1)
    await world.sweeper.sweep(CAUSE)
    with pytest.raises(StaleRead):
        await world.objects.write(name, b"late")

    assert set() == world.object_names()
