"""Work that takes longer than it should: it is told, a stuck mailbox is moved once, and what was told is over."""

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from schemas.facts import AlertRaised
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR, SITE_REENCRYPTOR
from schemas.requests import AssignmentRequested, MoveRequested
from tests.integration.hearing import listed, looked
from twinlock.content import containers
from twinlock.crashpoints import CrashPoint
from twinlock.store.tables.content import items
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause
from workers import overdue, wakeups

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

ANN, BOB = "ann@acme.example", "bob@acme.example"
HOUR = 3600.0
OPEN = ("reencryption-overdue", None, "open", "engineering")
OVER = ("reencryption-overdue", None, "resolved", "engineering")


class Fleet:
    """Hold the world and its workers, whose time passes as the test says."""

    def __init__(self, world: "World", pump: "Pump") -> None:
        self.world = world
        self.pump = pump

    async def assign(self, *mailboxes: str) -> None:
        """Bring mailboxes with mail under a policy that refuses right after: nothing of them is re-encrypted."""
        for mailbox in mailboxes:
            await self.world.mailbox(mailbox, *(bytes([n]) * 50 for n in range(20)))
        await self.pump.publisher.request(AssignmentRequested(policy="policy-p", mailboxes=mailboxes))
        while await self.job(mailboxes[-1]) is None:
            await self.pump.step()
        self.world.custodian.refusing.add("policy-p")
        await self.pump.run()

    async def job(self, mailbox: str) -> Any:
        """Return the job that re-encrypts a mailbox, or none."""
        async with self.world.store.read() as reader:
            found = await containers.find_mailbox(reader, mailbox)
            return await reader.row(select(jobs).where(jobs.c.id == f"reencrypt:{found.id}"))

    async def generation(self, mailbox: str) -> int:
        """Return the number of a mailbox's newest key."""
        async with self.world.store.read() as reader:
            return (await containers.find_mailbox(reader, mailbox)).newest.number

    async def later(self, hours: float) -> None:
        """Let time pass, and every worker look at what is overdue, and work on what is due."""
        self.world.clock.advance(hours * HOUR)
        for worker in (DEP_ASSIGNER, MAILBOX_REENCRYPTOR, SITE_REENCRYPTOR):
            await overdue.look(self.world.store, worker, self.pump.settings)
            await wakeups.reconcile(self.world.store, worker, HOUR)

    async def told(self) -> list[AlertRaised]:
        """Return every alert of that kind that was told so far, and have it heard."""
        await self.pump.run()
        return [each for each in self.pump.seen if isinstance(each, AlertRaised) and each.kind == overdue.KIND]


@pytest.fixture
def fleet(world: "World", pump: "Pump") -> Fleet:
    return Fleet(world, pump)


async def test_told_once(fleet: Fleet) -> None:
    """After 72 hours one alert tells of all that is left of a policy, once; it is over when none is left."""
    await fleet.assign(ANN, BOB)
    await fleet.later(71.9)

    assert [] == await fleet.told()

    await fleet.later(0.2)
    await fleet.later(1)
    (told,) = await fleet.told()

    assert "0 of 20), and 1 more: the policy's keys are denied" in told.detail
    assert ("acme", "policy-p") == (told.tenant, told.policy)
    assert [OPEN] == await looked(fleet.world.store)

    fleet.world.custodian.refusing.clear()
    await fleet.later(1)
    await fleet.pump.run()

    assert [OVER] == await looked(fleet.world.store)
    assert await fleet.pump.at_rest()


async def test_moved_once(fleet: Fleet) -> None:
    """A mailbox that is overdue and does not get on is moved once, as soon as its keys answer, and not again."""
    await fleet.assign(ANN)
    damaged = (await _items(fleet.world))[0]
    async with fleet.world.store.begin(Cause("test")) as unit:
        await unit.execute(update(items).where(items.c.id == damaged.id).values(body=b"x" * len(damaged.body)))
    await fleet.later(73)
    await fleet.pump.run()

    assert (2, overdue.TOLD) == (await fleet.generation(ANN), (await fleet.job(ANN)).overdue)

    fleet.world.custodian.refusing.clear()
    for _ in range(3):
        await fleet.later(2)
        await fleet.pump.run()

    assert (3, overdue.MOVED) == (await fleet.generation(ANN), (await fleet.job(ANN)).overdue)
    assert OPEN in await looked(fleet.world.store)

    async with fleet.world.store.begin(Cause("test")) as unit:
        await unit.execute(update(items).where(items.c.id == damaged.id).values(body=damaged.body))
    await fleet.later(1)
    await fleet.pump.run()

    assert OVER in await looked(fleet.world.store)
    assert 20 == len(await fleet.world.content(ANN))
    assert 1 == len(await fleet.told())


async def test_slow_is_not_stuck(fleet: Fleet) -> None:
    """A mailbox that gets on, however slowly, is not begun again."""
    await fleet.assign(ANN)
    fleet.world.custodian.refusing.clear()
    await fleet.later(71.5)
    await fleet.pump.step()
    await fleet.later(0.6)

    assert overdue.TOLD == (await fleet.job(ANN)).overdue

    await fleet.pump.run()

    assert 2 == await fleet.generation(ANN)
    assert await fleet.job(ANN) is None


async def test_new_target(fleet: Fleet) -> None:
    """Whoever moves the mailbox gives it another 72 hours."""
    await fleet.assign(ANN)
    refusing = fleet.world.custodian.refusing
    fleet.world.clock.advance(71 * HOUR)
    refusing.clear()
    await fleet.pump.publisher.request(MoveRequested(mailbox=ANN))
    await fleet.pump.step()
    refusing.add("policy-p")
    await fleet.later(2)

    assert [] == await fleet.told()

    await fleet.later(71)

    assert 1 == len(await fleet.told())
    assert 3 == await fleet.generation(ANN)


async def test_killed_before_the_commit(fleet: Fleet) -> None:
    """A process that ends in the middle of the move leaves it to the next one: there is one new key."""
    await fleet.assign(ANN)
    await fleet.later(73)
    await fleet.pump.run()
    fleet.world.custodian.refusing.clear()
    await fleet.later(1)
    await fleet.pump.killed(CrashPoint.BEFORE_COMMIT)
    await fleet.later(1)
    await fleet.pump.run()

    assert 3 == await fleet.generation(ANN)
    assert await fleet.job(ANN) is None
    assert [OVER] == await looked(fleet.world.store)


async def _items(world: "World") -> Any:
    async with world.store.read() as reader:
        return await reader.rows(select(items.c.id, items.c.body))


async def test_assignment_itself(fleet: Fleet) -> None:
    """An assignment that could not even be expanded is told as well."""
    await fleet.pump.publisher.request(AssignmentRequested(policy="policy-p", mailboxes=(ANN,)))
    await fleet.pump.step()
    await fleet.later(72)
    (told,) = await fleet.told()

    assert "an assignment is not done after 72 h" in told.detail
    assert [OVER] == await looked(fleet.world.store)
    assert [OVER] == await listed(fleet.world.store)
