"""The content of a purge, on both databases: all of it goes, in bounded steps, and nothing of anybody else's."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, insert, select, update

from schemas.identifiers import Slot
from schemas.names import RECOVERY_HANDLER
from tests.integration.test_reencrypt import BODIES, A, finish, switch
from twinlock.content import containers
from twinlock.content.purging import ContentPurger
from twinlock.crashpoints import CrashPoint, arm, disarm
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import Asker, RootAnswer, service
from twinlock.keys.ports import Outcome
from twinlock.purging.resuming import sweep
from twinlock.purging.rows import Look, add_purge
from twinlock.store.tables.approvals import approvals
from twinlock.store.tables.content import container_keys, container_wraps, items, object_intents, superseded_objects
from twinlock.store.tables.custody import policies
from twinlock.store.tables.purges import purged_generations
from twinlock.store.unit import Cause, StaleRead
from workers.jobs import claim
from workers.recovery_handler.sweep import SweepPurged

if TYPE_CHECKING:
    from tests.integration.conftest import World

B, PURGE, CAUSE = "b@acme.example", "purge", Cause("test")
DENIED = tuple(RootAnswer(slot, f"local://{slot}/k", Outcome.DENIED) for slot in (Slot.A, Slot.B))


async def begun(world: "World") -> ContentPurger:
    """Return what destroys the content of policy P, whose purge there is a row of."""
    now = world.clock.now()
    row: dict[str, Any] = {
        "id": PURGE,
        "tenant_id": "acme",
        "policy_id": "policy-p",
        "action": "purge",
        "state": "done",
    }
    row |= {"statement": b"", "requested_at": now, "expires_at": now, "version": 1, "subject": "acme/p"}
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(insert(approvals).values(row))
        await add_purge(unit, PURGE, "policy-p", Look(now, (DENIED[0], DENIED[1])))
    return ContentPurger(world.store, world.objects, replace(world.settings, sweep_batch=2))


async def step(world: "World", purger: ContentPurger) -> bool:
    """Take one step, and say whether anything was left to be done."""
    planned = await purger.plan("policy-p")
    if planned is not None:
        async with world.store.begin(CAUSE) as unit:
            await purger.apply(unit, PURGE, planned)
    return planned is not None


async def drain(world: "World", purger: ContentPurger) -> None:
    """Take steps until nothing is left."""
    while await step(world, purger):
        pass


async def names(world: "World", column: Any) -> list[Any]:
    """Return a column."""
    async with world.store.read() as reader:
        return [row[0] for row in await reader.rows(select(column).order_by(column))]


async def test_law_14_gone_at_once(world: "World") -> None:
    """Law 14: the policy's objects are kept for nobody, old ones and uploads under way included; others' are."""
    await world.mailbox(A, *BODIES)
    kept = await world.mailbox(B, *BODIES[3:])
    await world.items.delete(B, kept[:1], CAUSE)
    await switch(world, "policy-p")
    await finish(world)
    async with world.store.read() as reader:
        mine, others = [await containers.find_mailbox(reader, address) for address in (A, B)]
    (upload,) = await world.objects.announce(mine.id, 1, CAUSE)
    purger, steps = await begun(world), 0

    assert {name.split("/")[0] for name in world.object_names()} == {mine.id, others.id}
    while await step(world, purger):
        steps += 1
        async with world.store.read() as reader:
            left = await reader.scalar(select(func.count()).where(items.c.container_id == mine.id))
        assert left >= len(BODIES) - 2 * steps
    assert {others.id} == {name.split("/")[0] for name in world.object_names()}
    assert 1 == len(await names(world, superseded_objects.c.name))
    assert [] == await names(world, object_intents.c.name)
    with pytest.raises(StaleRead):
        await world.objects.write(upload, b"too late")
    assert upload not in world.object_names()
    assert {kept[1]: BODIES[4]} == await world.content(B)
    assert [mine.newest.number] == await names(world, purged_generations.c.generation)


async def test_killed_at_an_object(world: "World") -> None:
    """Killed after an object was deleted and before its row was, the next step goes on."""
    await world.mailbox(A, *BODIES)
    await switch(world, "policy-p")
    purger = await begun(world)
    await step(world, purger)

    def end() -> None:
        raise KeyboardInterrupt

    arm(CrashPoint.PURGE_OBJECT_DELETED, end)
    with pytest.raises(KeyboardInterrupt):
        await drain(world, purger)
    disarm()
    await drain(world, purger)

    assert set() == world.object_names()
    assert [] == await names(world, superseded_objects.c.name)


async def test_swept_without_a_purge(world: "World") -> None:
    """What a restored backup brings back of a purged policy's content goes, and of no other policy's."""
    await world.mailbox(A, *BODIES)
    await switch(world, "policy-p")
    recovering: Any = Unrestored()
    sweeping = SweepPurged(world.store, recovering, ContentPurger(world.store, world.objects, world.settings))
    async with world.store.begin(CAUSE) as unit:
        await sweep(unit, "acme", "policy-p", timedelta())
    with pytest.raises(KeyRefused, match="is not purged"):
        await take(world, sweeping)
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(policies).where(policies.c.id == "policy-p").values(state="purged"))
    while await take(world, sweeping):
        pass

    assert (set(), []) == (world.object_names(), await names(world, container_keys.c.policy_id))


class Unrestored:
    """Be a custodian whose database is as new as its mark."""

    async def refuse_restored(self) -> None:
        """Refuse nothing."""


async def take(world: "World", sweeping: SweepPurged) -> bool:
    """Take a step of the job, and say whether there was anything left."""
    job = await claim(world.store, RECOVERY_HANDLER, "test", 0.0)
    assert job is not None
    world.clock.advance(1)
    step = await sweeping.plan(job, Asker(service(job.kind), CAUSE))
    if step is not None:
        async with world.store.begin(CAUSE) as unit:
            await sweeping.apply(unit, job, step)
    return step is not None


async def test_law_16_who_wrapped_before(world: "World") -> None:
    """Law 16: what policies once wrapped a container's keys is kept, with the newest moment; a removal forgets it."""
    await world.mailbox(A, *BODIES)
    moments = []
    for policy in ("policy-p", "policy-q", "policy-p"):
        world.clock.advance(60)
        moments.append(world.clock.now())
        await switch(world, policy)
    async with world.store.read() as reader:
        rows = await reader.rows(select(container_wraps))
    found = {row.policy_id: (row.generation, row.until) for row in rows}

    assert {
        "service-policy": (1, moments[0]),
        "policy-p": (2, moments[1]),
        "policy-q": (3, moments[2]),
    } == found
    await world.mailboxes.remove(A, CAUSE)

    assert [] == await names(world, container_wraps.c.policy_id)
