"""Many processes on one database: nobody fails because of the others, nobody starves, and what they did is exact."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, update

from schemas.event import Event
from schemas.names import DEP_ASSIGNER
from schemas.requests import AssignmentRequested, MoveRequested
from twinlock.clock import ManualClock
from twinlock.content.plain import BytesPlain
from twinlock.custody.port import USER, Asker
from twinlock.errors import AlreadyExists
from twinlock.store.engine import open_engine
from twinlock.store.tables.content import container_keys, containers, items
from twinlock.store.tables.work import jobs as job_rows
from twinlock.store.tables.work import turns, wake_slots
from twinlock.store.unit import Cause, Store
from workers import jobs
from workers.jobs import NewJob
from workers.wakeups import pass_on, prepare_slots, reconcile

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

OpenStore = Callable[[], Awaitable[Store]]
CAUSE, WORKER, LEASE = Cause("c"), "mailbox_reencryptor", 60.0
ASKER = Asker(USER, CAUSE)


async def at_once(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run all of them at the same time and return what each came to."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


async def put(store: Store, job: str, tenant: str) -> None:
    async with store.begin(CAUSE) as unit:
        await jobs.put(unit, NewJob(job, WORKER, "reencrypt", tenant))


async def test_one_job_put_by_many(open_store: OpenStore) -> None:
    """Law 12: the same job put by ten at once is one row, and every put after the first makes the number rise."""
    await at_once(*[put(await open_store(), "j", "t") for _ in range(10)])
    async with (await open_store()).read() as reader:
        (row,) = await reader.rows(select(job_rows))

    assert ("j", 10) == (row.id, row.fencing)


async def test_tenants_take_turns(open_store: OpenStore, clock: ManualClock) -> None:
    """Law 12: who claims at the same time takes turns with the tenants, and every job is claimed by one alone.

    PostgreSQL may hand out a turn that another claim has just taken: the tenant passed over then is the next.
    """
    stores = [await open_store() for _ in range(4)]
    for tenant in "abcd":
        for number in range(4):
            await put(stores[0], f"{tenant}{number}", tenant)
    rounds = [
        await at_once(*[jobs.claim(store, WORKER, f"o{turn}{n}", LEASE) for n, store in enumerate(stores)])
        for turn in range(4)
    ]
    claimed = [job.id for each in rounds for job in each if job is not None]

    assert 16 == len(set(claimed)) == len(claimed)
    assert Counter(dict.fromkeys("abcd", 4)) == Counter(name[0] for name in claimed)
    for done in range(1, 5):
        counts = Counter(job.tenant_id for each in rounds[:done] for job in each if job is not None)
        assert min(counts[tenant] for tenant in "abcd") >= done - 1


async def test_one_tenant_many_claims(open_store: OpenStore) -> None:
    """Law 12: where one tenant alone has work, all who claim at once get a job of it: nobody goes back to sleep."""
    stores = [await open_store() for _ in range(6)]
    for number in range(6):
        await put(stores[0], f"j{number}", "t")
    found = await at_once(*[jobs.claim(store, WORKER, f"o{n}", LEASE) for n, store in enumerate(stores)])

    assert {f"j{number}" for number in range(6)} == {job.id for job in found if job is not None}


async def test_copies_of_a_wake_up(open_store: OpenStore) -> None:
    """Law 12: a copy of a wake-up that saw no job and is done first leaves the other copy's job to the next one."""
    store = await open_store()
    await prepare_slots(store, WORKER, 1)
    await put(store, "j", "t")
    async with store.begin(CAUSE) as unit:
        await unit.execute(update(wake_slots).where(wake_slots.c.slot == 0).values(event_id="w"))
    claimed = await jobs.claim(store, WORKER, "w", LEASE, 0)
    async with store.begin(CAUSE) as unit:
        await pass_on(unit, WORKER, 0, "w")
    async with store.read() as reader:
        (row,) = await reader.rows(select(job_rows))
        next_one = await reader.scalar(select(wake_slots.c.event_id).where(wake_slots.c.slot == 0))
    late = await jobs.claim(store, WORKER, "w", LEASE, 0)

    assert claimed is not None
    assert (None, claimed.fencing + 1) == (row.lease_owner, row.fencing)
    assert next_one not in (None, "w")
    assert late is None
    assert await jobs.claim(store, WORKER, next_one, LEASE, 0) is not None


async def test_locked_row_hides_nothing(postgres_url: str, clock: ManualClock) -> None:
    """Law 12: a job and a turn that somebody else has locked for long keep nobody from the rest."""
    first, second = (Store(open_engine(postgres_url), clock, "urn:x") for _ in range(2))
    for name in ("a1", "a2", "b1"):
        await put(first, name, name[0])
    async with first.begin(CAUSE) as unit:
        await unit.rows(select(job_rows).where(job_rows.c.id == "a1").with_for_update())
        await unit.rows(select(turns).where(turns.c.tenant_id == "b").with_for_update())
        found = [await jobs.claim(second, WORKER, f"o{n}", LEASE) for n in range(3)]

    await first.close()
    await second.close()

    assert ["a2", "b1", None] == [job and job.id for job in found]


async def test_slots_prepared_by_many(open_store: OpenStore) -> None:
    """Law 12: replicas that start together make each slot once; a lower concurrency takes free ones away."""
    await at_once(*[prepare_slots(await open_store(), WORKER, 5) for _ in range(6)])
    store = await open_store()
    async with store.begin(CAUSE) as unit:
        before = await unit.scalar(select(func.count()).select_from(wake_slots))
        await unit.execute(update(wake_slots).where(wake_slots.c.slot == 8).values(event_id="e", since=None))
    await prepare_slots(store, WORKER, 2)
    async with store.read() as reader:
        left = [row.slot for row in await reader.rows(select(wake_slots.c.slot).order_by(wake_slots.c.slot))]

    assert 10 == before
    assert [0, 1, 2, 3, 8] == left


async def test_one_address(world: "World") -> None:
    """Of many who add one address at once one does, and the others are told that it exists."""

    async def add() -> bool:
        try:
            await world.mailbox("ann@acme.example")
        except AlreadyExists:
            return False
        return True

    assert [False] * 7 + [True] == sorted(await at_once(*[add() for _ in range(8)]))


async def _keep_handling(pump: "Pump", stop: asyncio.Event) -> None:
    while not stop.is_set():
        if not await pump.step():
            await asyncio.sleep(0.001)


async def _ask(pump: "Pump", event: Event) -> None:
    await pump.publisher.request(event)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("addresses", [["hot@acme.example"], [f"m{n}@acme.example" for n in range(5)]])
async def test_everything_at_once(world: "World", pump: "Pump", addresses: list[str], seed: int) -> None:
    """Laws 3 and 12: writers, moves, assignments and their steps on the same mailboxes lose and double nothing."""
    rng = Random(seed)  # noqa: S311  # the same story in every run, as far as the database allows
    for address in addresses:
        await world.mailbox(address)
    bodies: dict[str, dict[str, bytes]] = {address: {} for address in addresses}

    async def write(number: int) -> None:
        address, body = rng.choice(addresses), f"body {number}".encode() * rng.choice((1, 900))
        items_ = world.items
        bodies[address][await items_.put(address, BytesPlain("eml", body), ASKER)] = body

    requests: list[Event] = [MoveRequested(mailbox=rng.choice(addresses)) for _ in range(5)]
    requests += [AssignmentRequested(policy=f"acme/{name}", all_mailboxes=True) for name in ("policy-p", "policy-q")]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(_keep_handling(pump.another(rng), stop))
        await at_once(*[write(number) for number in range(24)], *[_ask(pump, event) for event in requests])
        stop.set()
    await pump.run()
    # A message that two pumps had at once may leave a lease behind, which lapses.
    world.clock.advance(pump.settings.lease_seconds + 1)
    for worker in (DEP_ASSIGNER, WORKER):
        await reconcile(world.store, worker, 0.0)
    await pump.run()

    for address in addresses:
        assert bodies[address] == await world.content(address)
    await _check_counts(world.store)


async def _check_counts(store: Store) -> None:
    counted = select(func.count()).where(
        items.c.container_id == container_keys.c.container_id, items.c.generation == container_keys.c.generation
    )
    async with store.read() as reader:
        kept = await reader.rows(select(container_keys.c.item_count, counted.scalar_subquery().label("there")))
        generations = await reader.scalar(select(func.count()).select_from(container_keys))
        mailboxes = await reader.scalar(select(func.count()).select_from(containers))
        open_jobs = await reader.rows(select(job_rows.c.id, job_rows.c.trouble))

    assert all(row.item_count == row.there for row in kept)
    assert mailboxes == generations
    assert [] == open_jobs
