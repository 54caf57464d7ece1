"""Law 8: after a revocation no custodian serves, whether it runs, hangs, starts, was cut off or has crashed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, event, func, insert, select
from sqlalchemy.exc import OperationalError

from schemas.identifiers import AvailabilityMode, PolicyState
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.lifecycle import purging
from twinlock.custody.port import USER, ContainerRef, Initiator, service
from twinlock.custody.revocation import register, revocations
from twinlock.custody.revocation.revocations import Change
from twinlock.custody.revocation.settling import Settled, settled
from twinlock.errors import TwinlockError
from twinlock.keys.ports import Outcome
from twinlock.store.tables.approvals import approvals
from twinlock.store.tables.custody import custodians
from twinlock.store.tables.custody import revocations as rows
from twinlock.store.tables.purges import purges
from twinlock.store.unit import Cause, Store

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

OpenStore = Callable[[], Awaitable[Store]]
CAUSE = Cause("test")


async def change(custody: "Custody", policy: str = "p", state: PolicyState = PolicyState.REVOKED) -> Change:
    """Revoke a policy, or restore it, as the command does."""
    async with custody.store.begin(CAUSE) as unit:
        return await revocations.change(unit, policy, state, None)


async def running(custody: "Custody", ref: ContainerRef, count: int = 1) -> list[LocalCustodian]:
    """Start custodians, each of which has opened a container and so caches its policy's key."""
    found = [custody.process() for _ in range(count)]
    for each in found:
        await custody.open(ref, custodian=each)
    return found


async def gone(custody: "Custody", number: int) -> Settled:
    """Wait as `policy revoke` does, while the clock moves on."""
    return await custody.moving(settled(custody.store, custody.clock, number, custody.settings))


async def served(custody: "Custody", ref: ContainerRef, custodian: LocalCustodian, initiator: Initiator = USER) -> str:
    """Say what a caller gets."""
    try:
        await custody.open(ref, initiator, custodian)
    except (KeyRefused, KeyNotYet) as no:
        return type(no).__name__
    return "served"


def held(custodian: LocalCustodian) -> int:
    """Count the keys in a custodian's memory."""
    return len(list(custodian.cached()))


@pytest.mark.parametrize("mode", AvailabilityMode)
async def test_law_8_refused_before_cache_and_vault(custody: "Custody", mode: AvailabilityMode) -> None:
    """Law 8: a revoked policy serves nobody in any mode, however well its root keys answer, and asks no vault."""
    ref = await custody.container(await custody.policy("p", mode))
    (custodian,) = await running(custody, ref)
    asked = custody.asked("p"), custody.availability_asked("p")
    await change(custody)

    assert ["KeyRefused"] * 2 == [await served(custody, ref, custodian, who) for who in (USER, service("index"))]

    custody.clock.advance(300)
    await custodian.epoch.confirm()
    await custodian.prober.probe_cached()
    await custodian.prober.probe_refused()

    assert "KeyRefused" == await served(custody, ref, custodian)
    assert (asked, 0) == ((custody.asked("p"), custody.availability_asked("p")), held(custodian))
    with pytest.raises(KeyRefused, match="revoked"):
        await custodian.rewrap_containers([ref], "p", custody.asker())
    with pytest.raises(KeyRefused, match="revoked"):
        await custodian.rewrap_policy_key("p", custody.asker())


async def test_law_8_every_replica_drops_it(custody: "Custody") -> None:
    """Law 8: the wait for a revocation ends as soon as every custodian has confirmed it, and none holds the key."""
    ref = await custody.container(await custody.policy("p"))
    other = await custody.container(await custody.policy("q"), "other")
    replicas = await running(custody, other, 3)
    for each in replicas:
        await custody.open(ref, custodian=each)
    done = await change(custody)
    for each in replicas:
        await each.epoch.confirm()
    found = await settled(custody.store, custody.clock, done.number, custody.settings)

    assert (3, 0) == (found.evicted, found.lapsed)
    assert [["q"]] * 3 == [[line.policy_id for line in each.cached()] for each in replicas]


async def test_law_8_hangs(custody: "Custody") -> None:
    """Law 8: a custodian that hangs is waited for until its 10 s are over; when it goes on it serves nothing by then.

    That is what a stopped process does: its key is still in memory, and everything it knows is old.
    """
    ref = await custody.container(await custody.policy("p"))
    hanging, running_ = await running(custody, ref, 2)
    began = custody.clock.monotonic()
    done = await change(custody)
    await running_.epoch.confirm()
    found = await gone(custody, done.number)

    assert (1, 1, 1) == (found.evicted, found.lapsed, held(hanging))
    assert custody.clock.monotonic() - began >= custody.settings.epoch_seconds
    assert not hanging.epoch.holds
    assert ("KeyRefused", 0) == (await served(custody, ref, hanging), held(hanging))


async def test_law_8_cut_off(custody: "Custody", open_store: OpenStore) -> None:
    """Law 8: a custodian cut off from the database serves for 10 s at most, then says try again, and recovers."""
    ref = await custody.container(await custody.policy("p"))
    store = await open_store()
    custodian = custody.process(store)
    await custody.open(ref, custodian=custodian)

    def _cut(*_: object) -> None:
        raise OperationalError("", {}, OSError("the network is gone"))

    event.listen(store.engine.sync_engine, "before_cursor_execute", _cut)
    custody.clock.advance(9.9)

    assert custodian.epoch.holds

    custody.clock.advance(0.1)

    assert not custodian.epoch.holds
    with pytest.raises(KeyNotYet, match="can't confirm that nothing was revoked"):
        await custody.open(ref, custodian=custodian)

    event.remove(store.engine.sync_engine, "before_cursor_execute", _cut)

    assert "served" == await served(custody, ref, custodian)


async def test_law_8_comes_meanwhile(custody: "Custody", monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8: a custodian that read the epoch just before a revocation is waited for: it was in the register before."""
    ref = await custody.container(await custody.policy("p"))
    custodian, read, go_on = custody.process(), asyncio.Event(), asyncio.Event()
    newest = revocations.newest

    async def _slowly(reader: Any) -> int:
        found = await newest(reader)
        read.set()
        await go_on.wait()
        return found

    async with asyncio.TaskGroup() as group:
        with monkeypatch.context() as patched:
            patched.setattr("twinlock.custody.revocation.epoch.revocations.newest", _slowly)
            opening = group.create_task(served(custody, ref, custodian))
            await read.wait()
        done = await change(custody)
        began = custody.clock.monotonic()
        found = await gone(custody, done.number)
        go_on.set()

    assert (0, 1) == (found.evicted, found.lapsed)
    assert custody.clock.monotonic() - began >= custody.settings.epoch_seconds
    assert "KeyRefused" == opening.result()


async def test_law_8_confirms_too_late(custody: "Custody", monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8: a confirmation that is stored only after the one before has lapsed gives no right: nobody waited for it.

    It read the epoch before the revocation, which was over when its row said so.
    """
    ref = await custody.container(await custody.policy("p"))
    (custodian,) = await running(custody, ref)
    custody.clock.advance(9)
    write, read, go_on = custodian.epoch._write, asyncio.Event(), asyncio.Event()

    async def _slowly() -> None:
        read.set()
        await go_on.wait()
        await write()

    async with asyncio.TaskGroup() as group:
        with monkeypatch.context() as patched:
            patched.setattr(custodian.epoch, "_write", _slowly)
            confirming = group.create_task(custodian.epoch.confirm())
            await read.wait()
        done = await change(custody)
        found = await gone(custody, done.number)
        go_on.set()
        await confirming

    assert (0, 1) == (found.evicted, found.lapsed)
    assert not custodian.epoch.holds
    assert ("KeyRefused", 0) == (await served(custody, ref, custodian), held(custodian))


async def test_law_8_goes_while_it_confirms(custody: "Custody", monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8: a custodian that leaves in the middle of a confirmation has no right when that is done."""
    ref = await custody.container(await custody.policy("p"))
    (custodian,) = await running(custody, ref)
    write, written, go_on = custodian.epoch._write, asyncio.Event(), asyncio.Event()

    async def _slowly() -> None:
        await write()
        written.set()
        await go_on.wait()

    async with asyncio.TaskGroup() as group:
        with monkeypatch.context() as patched:
            patched.setattr(custodian.epoch, "_write", _slowly)
            group.create_task(custodian.epoch.confirm())
            await written.wait()
        leaving = group.create_task(custodian.epoch.leave())
        await asyncio.wait([leaving], timeout=0.1)
        go_on.set()
    async with custody.store.read() as reader:
        assert [] == await register.read_all(reader)

    assert not custodian.epoch.holds


@pytest.mark.parametrize("initiator", [USER, service("index")])
async def test_law_8_while_a_vault_answers(custody: "Custody", initiator: Initiator) -> None:
    """Law 8: a key that was asked for before the revocation, and comes after it, is neither cached nor handed out."""
    ref = await custody.container(await custody.policy("p"))
    custodian = custody.process()
    await custodian.epoch.confirm()
    for uri in custody.roots("p"):
        custody.vault.slow(uri, 3.0)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(served(custody, ref, custodian, initiator))
        await _sleeping(custody)
        await change(custody)
        await custodian.epoch.confirm()
        custody.clock.advance(3)

    assert ("KeyRefused", 0) == (opening.result(), held(custodian))


async def test_law_8_between_decision_and_cache(custody: "Custody", monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8: nor is one whose policy was found active in the last moment before it was revoked."""
    ref = await custody.container(await custody.policy("p"))
    custodian = custody.process()
    attempts, learn = custodian._attempts, custodian._attempts.learn

    async def _learn(*args: Any) -> Any:
        view = await learn(*args)
        await change(custody)
        await custodian.epoch.confirm()
        return view

    monkeypatch.setattr(attempts, "learn", _learn)

    assert ("KeyRefused", 0) == (await served(custody, ref, custodian), held(custodian))


async def test_law_8_suspended_before_the_answer(custody: "Custody") -> None:
    """Law 8: a process that sleeps for an hour in the middle of a call confirms anew before it answers."""
    ref = await custody.container(await custody.policy("p"))
    custodian = custody.process()
    for uri in custody.roots("p"):
        custody.vault.slow(uri, 3.0)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(served(custody, ref, custodian))
        await _sleeping(custody)
        custody.clock.advance(3600)

    assert "served" == opening.result()
    assert custodian.epoch.holds


async def test_law_8_lapsed_then_confirms(custody: "Custody") -> None:
    """Law 8: a custodian that comes back after its time is waited for again, from its first sign of life."""
    ref = await custody.container(await custody.policy("p"))
    (custodian,) = await running(custody, ref)
    custody.clock.advance(3600)
    number = (await change(custody)).number
    found = await settled(custody.store, custody.clock, number, custody.settings)

    assert (0, 1) == (found.evicted, found.lapsed)

    await custodian.epoch.confirm()
    found = await settled(custody.store, custody.clock, number, custody.settings)

    assert (1, 0, 0) == (found.evicted, found.lapsed, held(custodian))


async def test_law_8_goes(custody: "Custody") -> None:
    """Law 8: nobody waits for a custodian that left; it serves nothing until it has registered again."""
    ref = await custody.container(await custody.policy("p"))
    (custodian,) = await running(custody, ref)
    custodian.close()
    await custodian.epoch.leave()
    await custodian.epoch.leave()
    done = await change(custody)
    found = await settled(custody.store, custody.clock, done.number, custody.settings)

    assert (0, 0) == (found.evicted, found.lapsed)
    assert "KeyRefused" == await served(custody, ref, custodian)


async def test_law_8_crashed(custody: "Custody") -> None:
    """Law 8: the row of a custodian that crashed is removed by upkeep, a minute after its last confirmation."""
    ref = await custody.container(await custody.policy("p"))
    await running(custody, ref, 2)
    custody.clock.advance(register.GONE_SECONDS)
    (alive,) = await running(custody, ref)
    custody.clock.advance(1)

    assert 2 == await register.forget(custody.store)
    async with custody.store.read() as reader:
        (left,) = await register.read_all(reader)

    assert custody.clock.now() - left.confirmed_at == timedelta(seconds=1)
    assert alive.epoch.holds


async def test_law_8_confirms_by_itself(custody: "Custody") -> None:
    """Law 8: with its confirmer running a custodian drops the key within one interval, and tells of it once."""
    ref = await custody.container(await custody.policy("p"))
    replicas = await running(custody, ref, 2)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.epoch.run()) for each in replicas]
        await _sleeping(custody, 2)
        done = await change(custody)
        custody.clock.advance(custody.settings.confirm_interval)
        await _sleeping(custody, 2)
        found = await settled(custody.store, custody.clock, done.number, custody.settings)
        for task in tasks:
            task.cancel()

    assert (2, 0, 0) == (found.evicted, found.lapsed, sum(map(held, replicas)))
    assert [{"policy": "p", "version": 2, "tenant": "acme", "revocation": 1}] == await custody.events("policy.revoked")
    assert ["policy-revoked"] == await custody.alerts()


async def test_law_8_bound(custody: "Custody") -> None:
    """Law 8: after a revocation nobody uses a container key for longer than 10 s and 60 s, whatever the custodian does.

    It hangs, so that nothing tells it; the caller is the worst there can be: it renews as soon as it may, and uses what
    it has to the last second.
    """
    ref = await custody.container(await custody.policy("p"))
    (custodian,) = await running(custody, ref)
    await change(custody)
    revoked, last_use = custody.clock.monotonic(), 0.0
    while await served(custody, ref, custodian) == "served":
        last_use = custody.clock.monotonic() + custody.settings.keep_seconds
        custody.clock.advance(0.5)

    assert last_use - revoked <= custody.settings.epoch_seconds + custody.settings.keep_seconds


async def test_law_8_restored(custody: "Custody") -> None:
    """Law 8: only a restore lifts a revocation, and then the root keys decide again."""
    ref = await custody.container(await custody.policy("p"))
    (custodian,) = await running(custody, ref)
    first = await change(custody)
    again = await change(custody)

    assert (1, 1, 2) == (first.number, again.number, again.policy.version)

    back = await change(custody, state=PolicyState.ACTIVE)

    assert (2, PolicyState.ACTIVE) == (back.number, back.policy.state)
    assert "served" == await served(custody, ref, custodian)

    custody.hold("p", Outcome.DENIED, Outcome.DENIED)
    custody.restart()

    assert "KeyRefused" == await served(custody, ref, custody.custodian)


async def test_law_8_older_database(custody: "Custody") -> None:
    """Law 8: where the database is put back to before a revocation, whose number comes again, a custodian starts over.

    Otherwise it would pass for having confirmed the new one with that number before it has read it.
    """
    ref = await custody.container(await custody.policy("p"))
    await custody.policy("q")
    (custodian,) = await running(custody, ref)
    await change(custody, "q")
    await custodian.epoch.confirm()
    async with custody.store.begin(CAUSE) as unit:
        await unit.execute(delete(rows))
    await custodian.epoch.confirm()

    assert 0 == held(custodian)

    await custody.open(ref, custodian=custodian)
    done = await change(custody)
    found = await gone(custody, done.number)

    assert (1, 0, 1) == (done.number, found.evicted, found.lapsed)
    assert ("KeyRefused", 0) == (await served(custody, ref, custodian), held(custodian))


async def test_law_8_numbers_rise(custody: "Custody", open_store: OpenStore) -> None:
    """Law 8: of revocations at the same moment each number is seen before any higher one."""
    names = [await custody.policy(f"p{number}") for number in range(8)]
    stores, seen = [await open_store() for _ in names], list[set[int]]()

    async def _revoke(store: Store, name: str) -> None:
        async with store.begin(CAUSE) as unit:
            await revocations.change(unit, name, PolicyState.REVOKED, None)
        async with store.read() as reader:
            seen.append({row.number for row in await reader.rows(select(rows.c.number))})

    async with asyncio.TaskGroup() as group:
        for store, name in zip(stores, names, strict=True):
            group.create_task(_revoke(store, name))

    assert all(found == set(range(1, max(found) + 1)) for found in seen)
    assert set(range(1, 9)) == max(seen, key=len)


async def test_law_8_while_a_purge_waits(custody: "Custody") -> None:
    """Law 8: a policy whose purge is only asked for is revoked with a number, once; given up, it comes back revoked."""
    ref = await custody.container(await custody.policy("p"))
    (custodian,) = await running(custody, ref)
    async with custody.store.begin(CAUSE) as unit:
        asked = await purging.set_out(unit, "p")
    with pytest.raises(TwinlockError, match="can't be restored"):
        await change(custody, state=PolicyState.ACTIVE)
    done, again = await change(custody), await change(custody)
    await custodian.epoch.confirm()
    found = await settled(custody.store, custody.clock, done.number, custody.settings)

    assert (asked.number + 1, done.number, PolicyState.PURGING) == (done.number, again.number, done.policy.state)
    assert (1, "KeyRefused") == (found.evicted, await served(custody, ref, custodian))
    async with custody.store.begin(CAUSE) as unit:
        back = await purging.give_back(unit, "p")

    assert (PolicyState.REVOKED, "KeyRefused") == (back and back.policy.state, await served(custody, ref, custodian))
    assert PolicyState.ACTIVE is (await change(custody, state=PolicyState.ACTIVE)).policy.state


async def test_purged_is_final(custody: "Custody") -> None:
    """A policy whose purge has begun, or is over, is neither revoked nor restored."""
    await custody.policy("p")
    await custody.set_state("p", PolicyState.PURGING)
    now = custody.clock.now()
    request = {"id": "r", "tenant_id": "acme", "policy_id": "p", "action": "purge", "subject": "acme/p", "version": 1}
    times = {"requested_at": now, "expires_at": now + timedelta(days=1)}
    begun = {"id": "r", "policy_id": "p", "stage": "content", "verdicts": {}, "keys": {}, "begun_at": now}
    async with custody.store.begin(CAUSE) as unit:
        await unit.execute(insert(approvals).values(**request, **times, state="done", statement=b""))
        await unit.execute(insert(purges).values(**begun, containers=0, items=0, objects=0))
    for said in ("that has begun", "is purged"):
        for state in (PolicyState.REVOKED, PolicyState.ACTIVE):
            with pytest.raises(TwinlockError, match=said):
                await change(custody, state=state)
        await custody.set_state("p", PolicyState.PURGED)


async def test_report(custody: "Custody") -> None:
    """What a custodian holds is in its row, with the moment at which it expires."""
    ref = await custody.container(await custody.policy("p"))
    (custodian,) = await running(custody, ref)
    await custodian.epoch.confirm()
    async with custody.store.read() as reader:
        (row,) = await register.read_all(reader)
        count = await reader.scalar(select(func.count()).select_from(custodians))

    expires = "2026-01-01T00:10:00+00:00"
    assert [{"policy": "p", "generation": 1, "opened_by": "root-key", "expires": expires}] == row.report["keys"]
    assert 1 == count


async def _sleeping(custody: "Custody", count: int = 1) -> None:
    while custody.clock.sleepers < count:  # noqa: ASYNC110  # the clock under test has no event for it
        await asyncio.sleep(0)
