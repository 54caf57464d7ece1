"""The DEP assigner and the mailbox re-encryptor: jobs, wake-ups, fairness, and answers that tell everything."""

import random
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, insert, select, update

from schemas.facts import AssignmentExpanded, ReencryptionCompleted, ReencryptionProgressed, ReencryptionWoken
from schemas.identifiers import AvailabilityMode, MailboxKind, RequestOutcome, Workload
from schemas.names import MAILBOX_REENCRYPTOR
from schemas.requests import AssignmentRequested, MoveRequested, PolicyRequested, RefreshRequested
from twinlock.content.mailboxes import NewMailbox
from twinlock.custody.port import USER, Asker
from twinlock.store.tables.bus import inbox
from twinlock.store.tables.content import container_keys, containers, items
from twinlock.store.tables.custody import policies, policy_keys, root_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import assignment_outcomes, jobs, wake_slots
from twinlock.store.unit import Cause
from workers import wakeups
from workers.jobs import NewJob, claim, go_on, held, put
from workers.roster import upkeep_of

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
DONE, REFUSED = RequestOutcome.DONE, RequestOutcome.REFUSED


def address(number: int) -> str:
    """Name a mailbox."""
    return f"m{number}@acme.example"


async def reasons(world: "World") -> dict[str, str]:
    """Return the rejected containers with their reasons."""
    async with world.store.read() as reader:
        rows = await reader.rows(select(assignment_outcomes).where(assignment_outcomes.c.outcome == "rejected"))
    return {row.container: row.reason for row in rows}


async def at_rest(world: "World") -> bool:
    """Tell whether no job is left and no wake-up is under way."""
    async with world.store.read() as reader:
        left = await reader.scalar(select(func.count()).select_from(jobs))
        awake = await reader.scalar(select(func.count()).where(wake_slots.c.event_id.is_not(None)))
    return (left, awake) == (0, 0)


async def test_assignment_re_encrypts(world: "World", pump: "Pump") -> None:
    """An assigned mailbox is under its policy at once, and every item is under the new key when the fleet rests."""
    await world.mailbox(address(1), *(bytes([n]) * 50 for n in range(20)))
    outcome, said, _ = await pump.ask(AssignmentRequested(policy="policy-p", mailboxes=(address(1),)))
    status = await world.mailboxes.show(address(1))

    assert (DONE, 1, 0) == (outcome, said["assigned"], said["rejected"])
    assert ("policy-p", 20, 20, True, "encrypted") == (
        status.policy,
        status.items,
        status.items_encrypted,
        status.is_encrypted,
        status.state,
    )
    assert sorted(bytes([n]) * 50 for n in range(20)) == sorted((await world.content(address(1))).values())
    assert await at_rest(world)
    assert 1 == sum(isinstance(event, ReencryptionCompleted) for event in pump.seen)


async def test_assigned_before_mail_arrives(world: "World", pump: "Pump") -> None:
    """A mailbox assigned before its content arrives needs no second pass."""
    await world.mailbox(address(1))
    await pump.ask(AssignmentRequested(policy="policy-p", mailboxes=(address(1),)))
    await world.adder.add((await _container(world, 1)), [], ASKER)

    assert not any(isinstance(event, ReencryptionWoken | ReencryptionCompleted) for event in pump.seen)
    assert (await world.mailboxes.show(address(1))).is_encrypted


async def _container(world: "World", number: int) -> str:
    async with world.store.read() as reader:
        return str(await reader.scalar(select(containers.c.id).where(containers.c.name == address(number))))


async def test_mass_assignment_is_one_job(world: "World", pump: "Pump") -> None:
    """law 12: a mass assignment is one job in bounded batches; its event carries counts and its lists are rows."""
    for number in range(8):
        await world.mailbox(address(number), b"mail")
    outcome, said, _ = await pump.ask(AssignmentRequested(policy="policy-p", all_mailboxes=True))

    assert (DONE, 8, 0) == (outcome, said["assigned"], said["rejected"])
    (expanded,) = [event for event in pump.seen if isinstance(event, AssignmentExpanded)]
    assert (8, 0) == (expanded.assigned, expanded.rejected)
    assert await at_rest(world)


async def test_rejections_are_listed(world: "World", pump: "Pump") -> None:
    """Every mailbox that a policy may not take is listed with its reason, and the others are assigned."""
    await world.mailbox(address(1), b"mail")
    mailboxes = world.mailboxes
    await mailboxes.add(NewMailbox(address(2), "acme", MailboxKind.USER, licensed=False), ASKER)
    await mailboxes.add(NewMailbox(address(3), "acme", MailboxKind.SHARED, licensed=False), ASKER)
    await mailboxes.add(NewMailbox("x@other.example", "provider", MailboxKind.USER, licensed=True), ASKER)
    wanted = (address(1), address(2), address(3), "nobody@acme.example", "x@other.example")
    outcome, said, _ = await pump.ask(AssignmentRequested(policy="policy-p", mailboxes=wanted))
    found = await reasons(world)

    assert (DONE, 2, 3) == (outcome, said["assigned"], said["rejected"])
    assert {address(2), "nobody@acme.example", "x@other.example"} == set(found)
    assert "unlicensed" in found[address(2)]
    assert "no such mailbox" in found["nobody@acme.example"]
    assert "belongs to tenant provider" in found["x@other.example"]


async def test_trial_tenant(world: "World", pump: "Pump") -> None:
    """A trial tenant gets neither a policy nor an assignment, and its mailboxes can still be reverted."""
    await world.mailbox(address(1), b"mail")
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(tenants).where(tenants.c.name == "acme").values(trial=True))
    made = await pump.ask(_policy("new"))
    assigned = await pump.ask(AssignmentRequested(policy="policy-p", mailboxes=(address(1),)))
    reverted = await pump.ask(AssignmentRequested(policy="service", mailboxes=(address(1),)))

    assert [REFUSED, REFUSED, DONE] == [made[0], assigned[0], reverted[0]]
    assert "trial" in made[2]
    assert "trial" in (await reasons(world))[address(1)]


def _policy(name: str, first: str = "memory://a/k", second: str = "memory://b/k") -> PolicyRequested:
    return PolicyRequested(
        tenant="acme",
        name=name,
        workload=Workload.MAILBOX,
        mode=AvailabilityMode.STANDARD,
        keys=(first, second),
    )


async def test_every_failed_check_is_listed(world: "World", pump: "Pump") -> None:
    """A refused policy names every check that failed, and nothing of it is stored."""
    await pump.ask(_policy("taken"))
    outcome, said, detail = await pump.ask(_policy("taken", "memory://a/k", "memory://a/l"))

    assert REFUSED == outcome
    assert ["limit", "name", "two-vaults"] == sorted(check["check"] for check in said["failed"])
    assert "in the vault of the other key" in detail
    async with world.store.read() as reader:
        assert 1 == await reader.scalar(select(func.count()).where(policies.c.name == "taken"))


async def test_unknown_policy(world: "World", pump: "Pump") -> None:
    """An assignment to a policy that does not exist is refused as a whole."""
    outcome, _, detail = await pump.ask(AssignmentRequested(policy="nobody/nothing", all_mailboxes=True))

    assert (REFUSED, "there is no policy nobody/nothing") == (outcome, detail)


async def test_second_policy_wins(world: "World", pump: "Pump") -> None:
    """law 12: an assignment to Q in the middle of a re-encryption to P gives the one job a new target."""
    await world.mailbox(address(1), *(bytes([n]) for n in range(30)))
    await pump.publisher.request(AssignmentRequested(policy="policy-p", mailboxes=(address(1),)))
    for _ in range(4):
        await pump.step()
    outcome, _, _ = await pump.ask(AssignmentRequested(policy="policy-q", mailboxes=(address(1),)))
    async with world.store.read() as reader:
        rows = await reader.rows(select(container_keys.c.policy_id, container_keys.c.item_count))

    assert DONE == outcome
    assert [("policy-q", 30)] == [tuple(row) for row in rows]
    assert await at_rest(world)


async def test_refused_keys_stop_an_assignment(world: "World", pump: "Pump") -> None:
    """law 6: a mailbox whose policy's root keys are refused can't be assigned away, nor reverted."""
    await world.mailbox(address(1), b"mail")
    await pump.ask(AssignmentRequested(policy="policy-p", mailboxes=(address(1),)))
    world.custodian.refusing.add("policy-p")
    outcome, _, _ = await pump.ask(AssignmentRequested(policy="service", mailboxes=(address(1),)))

    assert REFUSED == outcome
    assert "denied" in (await reasons(world))[address(1)]
    assert "policy-p" == (await world.mailboxes.show(address(1))).policy


async def test_trouble_is_never_an_attempt(world: "World", pump: "Pump") -> None:
    """law 12: while keys do not answer a job is put off, again and again, and finishes by itself when they do."""
    await world.mailbox(address(1), b"mail")
    await pump.publisher.request(AssignmentRequested(policy="policy-p", mailboxes=(address(1),)))
    await pump.step()
    await pump.step()
    world.custodian.refusing.add("policy-p")
    for _ in range(30):
        await pump.run()
        world.clock.advance(301)
        await wakeups.reconcile(world.store, MAILBOX_REENCRYPTOR, 900)
    async with world.store.read() as reader:
        assert 1 == await reader.scalar(select(func.count()).where(jobs.c.trouble != ""))
    world.custodian.refusing.clear()
    world.clock.advance(301)
    await wakeups.reconcile(world.store, MAILBOX_REENCRYPTOR, 900)
    await pump.run()

    assert (await world.mailboxes.show(address(1))).is_encrypted
    assert await at_rest(world)


async def test_move(world: "World", pump: "Pump") -> None:
    """A move re-encrypts every item under a new mailbox key and destroys the old one."""
    await world.mailbox(address(1), b"one", b"two")
    outcome, said, _ = await pump.ask(MoveRequested(mailbox=address(1)))
    async with world.store.read() as reader:
        rows = await reader.rows(select(container_keys.c.generation, container_keys.c.item_count))

    assert (DONE, {"items": 2}) == (outcome, dict(said))
    assert [(2, 2)] == [tuple(row) for row in rows]


async def test_roll(world: "World", pump: "Pump") -> None:
    """A new policy key brings every mailbox along, and the old generation is destroyed when nothing is under it."""
    await world.mailbox(address(1), b"mail")
    await world.mailbox(address(2), b"mail")
    await pump.ask(AssignmentRequested(policy="policy-p", all_mailboxes=True))
    async with world.store.begin(CAUSE) as unit:
        for slot in ("a", "b"):
            key = {"policy_id": "policy-p", "slot": slot, "uri": f"memory://{slot}/key"}
            await unit.execute(insert(root_keys).values(**key, identity="x", version="1"))
    outcome, _, _ = await pump.ask(RefreshRequested(policy="policy-p", new_policy_key=True))
    async with world.store.read() as reader:
        generations = await reader.rows(select(policy_keys.c.generation).where(policy_keys.c.policy_id == "policy-p"))

    assert DONE == outcome
    assert [(2,)] == [tuple(row) for row in generations]
    assert 2 == (await world.mailboxes.show(address(1))).policy_version
    assert await at_rest(world)


@pytest.mark.parametrize("seed", range(8))
async def test_any_order_any_copies(world: "World", pump: "Pump", seed: int) -> None:
    """law 11: shuffled and duplicated deliveries end in the same state, each effect once."""
    chance = random.Random(seed)  # noqa: S311  # an order, not a secret
    pump.copies = 2
    pump.choose = lambda rows: chance.randrange(len(rows))
    for number in range(4):
        await world.mailbox(address(number), *(bytes([number, n]) for n in range(10)))
    await pump.publisher.request(AssignmentRequested(policy="policy-p", all_mailboxes=True))
    await pump.publisher.request(MoveRequested(mailbox=address(2)))
    await pump.run()

    assert await at_rest(world)
    for number in range(4):
        status = await world.mailboxes.show(address(number))
        assert ("policy-p", 10, 10) == (status.policy, status.items, status.items_encrypted)
        assert sorted(bytes([number, n]) for n in range(10)) == sorted((await world.content(address(number))).values())


async def test_wake_ups_are_bounded(world: "World", pump: "Pump") -> None:
    """law 12: however many jobs there are, no more wake-ups are under way than twice the concurrency."""
    for number in range(12):
        await world.mailbox(address(number), b"mail")
    await pump.publisher.request(AssignmentRequested(policy="policy-p", all_mailboxes=True))
    most = 0
    while await pump.step():
        async with world.store.read() as reader:
            awake = await reader.scalar(
                select(func.count()).where(
                    wake_slots.c.worker == MAILBOX_REENCRYPTOR, wake_slots.c.event_id.is_not(None)
                )
            )
        most = max(most, awake)

    assert 1 < most <= 2 * pump.settings.concurrency
    assert await at_rest(world)


async def test_tenants_take_turns(world: "World") -> None:
    """law 12: the tenant that has waited longest is served next, however many jobs another one has."""
    async with world.store.begin(CAUSE) as unit:
        for number in range(5):
            await put(unit, NewJob(f"big{number}", MAILBOX_REENCRYPTOR, "reencrypt", "acme"))
        await put(unit, NewJob("small", MAILBOX_REENCRYPTOR, "reencrypt", "provider"))
    order = []
    for number in range(6):
        job = await claim(world.store, MAILBOX_REENCRYPTOR, f"wake{number}", 60)
        assert job is not None
        order.append(job.id)
        async with world.store.begin(CAUSE) as unit:
            await go_on(unit, job, cursor="x", done=1, progressed=True)

    assert "small" in order[:2]
    assert 3 == order.count("small")


async def test_mailboxes_take_turns(world: "World") -> None:
    """law 12: within a tenant the mailbox that has waited longest is next, so that a huge one starves nobody."""
    async with world.store.begin(CAUSE) as unit:
        for number in range(3):
            await put(unit, NewJob(f"job{number}", MAILBOX_REENCRYPTOR, "reencrypt", "acme"))
    order = []
    for number in range(6):
        job = await claim(world.store, MAILBOX_REENCRYPTOR, f"wake{number}", 60)
        assert job is not None
        order.append(job.id)
        async with world.store.begin(CAUSE) as unit:
            await go_on(unit, job, cursor="x", done=1, progressed=True)

    assert ["job0", "job1", "job2"] * 2 == order


async def test_fencing(world: "World") -> None:
    """law 12: whoever lost the lease, or works on an older target, is fenced off."""
    async with world.store.begin(CAUSE) as unit:
        await put(unit, NewJob("job", MAILBOX_REENCRYPTOR, "reencrypt", "acme"))
    slow = await claim(world.store, MAILBOX_REENCRYPTOR, "slow", 60)
    assert slow is not None
    assert await claim(world.store, MAILBOX_REENCRYPTOR, "eager", 60) is None
    world.clock.advance(timedelta(seconds=61).total_seconds())
    fast = await claim(world.store, MAILBOX_REENCRYPTOR, "fast", 60)
    assert fast is not None
    async with world.store.begin(CAUSE) as unit:
        assert (False, True) == (await held(unit, slow), await held(unit, fast))
        await put(unit, NewJob("job", MAILBOX_REENCRYPTOR, "reencrypt", "acme", total=5))
        assert not await held(unit, fast)


async def test_redelivered_wake_up_keeps_its_job(world: "World") -> None:
    """law 12: a wake-up that comes again after a crash takes up its own job at once, with a new fencing number."""
    async with world.store.begin(CAUSE) as unit:
        await put(unit, NewJob("job", MAILBOX_REENCRYPTOR, "reencrypt", "acme"))
    first = await claim(world.store, MAILBOX_REENCRYPTOR, "wake", 60)
    again = await claim(world.store, MAILBOX_REENCRYPTOR, "wake", 60)

    assert first is not None
    assert again is not None
    assert first.fencing < again.fencing


async def test_lost_wake_up(world: "World", pump: "Pump") -> None:
    """law 12: the reconciler takes back the slot of a wake-up that was lost, and the job is done all the same."""
    await world.mailbox(address(1), b"mail")
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(wake_slots).values(event_id="lost", since=unit.clock.now()))
    await pump.publisher.request(MoveRequested(mailbox=address(1)))
    await pump.run()
    assert not await at_rest(world)
    world.clock.advance(901)
    await wakeups.reconcile(world.store, MAILBOX_REENCRYPTOR, 900)
    await pump.run()
    async with world.store.read() as reader:
        assert 0 == await reader.scalar(select(func.count()).select_from(jobs))


async def test_progress_is_not_chatty(world: "World", pump: "Pump") -> None:
    """law 12: progress is told at most once a second, however fast the steps are."""
    await world.mailbox(address(1), *(bytes([n]) for n in range(60)))
    await pump.publisher.request(MoveRequested(mailbox=address(1)))
    while await pump.step():
        world.clock.advance(0.4)

    told = sum(isinstance(event, ReencryptionProgressed) for event in pump.seen)
    assert 1 <= told <= 3


async def test_damaged_item_alerts_once(world: "World", pump: "Pump") -> None:
    """An item that does not decrypt is told to engineering once, stops nobody else, and the job waits for help."""
    ids = await world.mailbox(address(1), b"first!", b"second")
    async with world.store.begin(CAUSE) as unit:
        body = await unit.scalar(select(items.c.body).where(items.c.id == ids[0]))
        await unit.execute(update(items).where(items.c.id == ids[1]).values(body=body))
    await pump.publisher.request(MoveRequested(mailbox=address(1)))
    for _ in range(3):
        await pump.run()
        world.clock.advance(301)
        await wakeups.reconcile(world.store, MAILBOX_REENCRYPTOR, 900)

    alerts = [event for event in pump.seen if event.type == "twinlock.alert.raised.v1"]
    assert 1 == len(alerts)
    assert 1 == (await world.mailboxes.show(address(1))).items_encrypted


async def test_old_receipts_are_forgotten(world: "World", pump: "Pump") -> None:
    """Inbox rows are kept for `inbox_keep` and then forgotten, so that the table does not grow for ever."""
    await world.mailbox(address(1), b"mail")
    await pump.ask(MoveRequested(mailbox=address(1)))
    (forgetting,) = [
        task for task in upkeep_of(pump.place) if task.name == f"forget old receipts of {MAILBOX_REENCRYPTOR}"
    ]
    await forgetting.action()
    async with world.store.read() as reader:
        kept = await reader.scalar(select(func.count()).where(inbox.c.consumer == MAILBOX_REENCRYPTOR))
    world.clock.advance(pump.settings.inbox_keep + 1)
    await forgetting.action()
    async with world.store.read() as reader:
        left = await reader.scalar(select(func.count()).where(inbox.c.consumer == MAILBOX_REENCRYPTOR))

    assert kept > 0
    assert 0 == left
