"""Revocations and purges that a restored database has forgotten: each number is back, and no revocation is lost."""

import gc
from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select, update

from schemas.identifiers import PolicyState
from tests.integration.custody.test_restored import CAUSE, MAC_KEY, Installation, approve, go_back, told
from twinlock.custody.audit import exported
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.lifecycle import purging
from twinlock.custody.revocation import revocations
from twinlock.custody.revocation.mark import MemoryMarks, Restored
from twinlock.errors import TwinlockError
from twinlock.store.tables.approvals import approvals
from twinlock.store.tables.custody import (
    audit_entries,
    availability_keys,
    policies,
    policy_key_copies,
    policy_keys,
    root_key_pins,
    root_keys,
)
from twinlock.store.tables.custody import revocations as rows

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

ACTIVE, REVOKED, PURGED = PolicyState.ACTIVE, PolicyState.REVOKED, PolicyState.PURGED


class Backup(Installation):
    """Hold an installation with policy p, sealed, of which everything that follows is lost."""

    before: int

    async def begin(self) -> "Backup":
        """Take the backup."""
        await self.custody.policy("p")
        await self.seal()
        self.before = len(await self.custody.audit())
        return self

    async def change(self, *states: PolicyState, writer: str = "custodian", policy: str = "p") -> None:
        """Revoke a policy or lift that, as one of several writers; a writer without a name leaves no entry."""
        audit = AuditLog(self.store, writer, MAC_KEY, self.custody.clock) if writer else None
        for state in states:
            self.custody.clock.advance(1)
            async with self.store.begin(CAUSE) as unit:
                await revocations.change(unit, policy, state, audit)

    async def lose(self) -> list[str]:
        """Seal and export the log, and bring the backup back."""
        await self.seal()
        lines = await self.export()
        await go_back(self.store, 1, self.before)
        async with self.store.begin(CAUSE) as unit:
            await unit.execute(delete(audit_entries).where(audit_entries.c.writer.in_(("ann", "zoe"))))
        self.custody.clock.advance(60)
        return lines

    async def ends(self, policy: str = "p") -> tuple[str | None, list[str]]:
        """Return the state of a policy, and what its numbers say, in their order."""
        own = rows.c.policy_id == policy
        async with self.store.read() as reader:
            history = await reader.rows(select(rows.c.state).where(own).order_by(rows.c.number))
            state = await reader.scalar(select(policies.c.state).where(policies.c.id == policy))
        return state, [row.state for row in history]


async def test_order_of_numbers(custody: "Custody") -> None:
    """Law 8: of two writers within one pass of the sealer the higher number decides, wherever the chain has it."""
    place = await Backup(custody).begin()
    await place.change(REVOKED, ACTIVE, writer="zoe")
    await place.change(REVOKED, writer="ann")
    lines = await place.lose()
    found = await place.restoring().check(CAUSE, lines)

    assert ("revoked", ["revoked", "active", "revoked"]) == await place.ends()
    assert (3, ()) == (found.replayed, found.unreplayed)


@pytest.mark.parametrize(
    ("lost", "since", "ends"),
    [
        ([REVOKED, ACTIVE], [REVOKED], ["revoked", "active", "revoked"]),
        ([REVOKED, ACTIVE, REVOKED], [REVOKED, ACTIVE], ["revoked", "active", "revoked"] + ["revoked", "active"]),
        ([REVOKED, ACTIVE], [REVOKED, ACTIVE], ["revoked", "active"] * 2),
    ],
    ids=["revoked-since", "lifted-since", "both"],
)
async def test_changed_since(
    custody: "Custody", lost: list[PolicyState], since: list[PolicyState], ends: list[str]
) -> None:
    """Law 8: what was changed since the restore comes last, but lifts no revocation that nobody knew of then."""
    place = await Backup(custody).begin()
    await place.change(*lost)
    lines = await place.lose()
    another = place.guard(MemoryMarks(place.marks.read()))
    await place.change(*since)
    async with custody.store.read() as reader:
        with pytest.raises(Restored):
            await another.check(reader)
    await place.restoring().check(CAUSE, lines)
    async with custody.store.read() as reader:
        await another.check(reader)
    strict = "revoked" if REVOKED in (lost[-1], since[-1]) else "active"
    more = [] if ends[-1] == strict else [strict]

    assert (strict, ends + more) == await place.ends()
    await place.custodian.epoch.confirm()
    entries = [row for row in await custody.audit() if "number" in row.detail]
    assert sorted(row.detail["number"] for row in entries) == list(range(1, len(ends + more) + 1))


async def test_policy_is_gone(custody: "Custody") -> None:
    """The revocation of a policy that was made after the backup is named, and its number is as good as any."""
    place = await Backup(custody).begin()
    await custody.policy("q")
    await place.change(REVOKED)
    await place.change(REVOKED, policy="q")
    lines = await place.lose()
    async with custody.store.begin(CAUSE) as unit:
        for table in (policy_key_copies, policy_keys, availability_keys, root_key_pins, root_keys):
            await unit.execute(delete(table).where(table.c.policy_id == "q"))
        await unit.execute(delete(policies).where(policies.c.id == "q"))
    found = await place.restoring().check(CAUSE, lines)

    assert ["policy-revoked"] == [each.kind for each in found.unreplayed]
    assert ("revoked", ["revoked"]) == await place.ends()
    assert (None, ["revoked"]) == await place.ends("q")
    await place.custodian.epoch.confirm()


async def test_number_without_entry(custody: "Custody") -> None:
    """A number of which no entry tells may be a revocation, also below one that is told of: a person has to decide."""
    place = await Backup(custody).begin()
    await custody.policy("q")
    await place.change(REVOKED, writer="", policy="q")
    await place.change(REVOKED)
    lines = await place.lose()
    with pytest.raises(TwinlockError, match="even with that export it lacks revocation 1"):
        await place.restoring().check(CAUSE, lines)
    with pytest.raises(Restored):
        await place.custodian.epoch.confirm()
    await place.restoring().accept(CAUSE, "the log burnt", lines)

    assert ("revoked", ["revoked"]) == await place.ends()
    await place.custodian.epoch.confirm()


async def test_custodian_writes_it_down(custody: "Custody") -> None:
    """A revocation whose command had no audit log is in that of the custodian that announces it."""
    place = await Backup(custody).begin()
    await place.change(REVOKED, writer="")
    await place.custodian.epoch._announce()
    lines = await place.lose()
    found = await place.restoring().check(CAUSE, lines)

    assert ("revoked", ["revoked"]) == await place.ends()
    assert (1, ()) == (found.replayed, found.unreplayed)


async def test_newest_number_without_entry(custody: "Custody") -> None:
    """Where nothing tells of the newest number a newer export may: only the operator's word serves without, once."""
    place = await Backup(custody).begin()
    await place.change(REVOKED)
    lines = await place.lose()
    marked = place.marks.read()
    await place.change(REVOKED, ACTIVE)
    await place.change(REVOKED, writer="")
    place.marks.write(await _mark(place))
    await go_back(custody.store, 1, place.before)
    with pytest.raises(TwinlockError, match="even with that export it lacks"):
        await place.restoring().check(CAUSE, lines)

    assert marked is not None
    assert ("active", []) == await place.ends()
    found = await place.restoring().accept(CAUSE, "the log burnt", lines)

    assert ("revoked", ["revoked"]) == await place.ends()
    assert (1, ()) == (found.replayed, found.unreplayed)
    await place.custodian.epoch.confirm()
    await place.change(REVOKED, policy="p")
    async with custody.store.read() as reader:
        assert 3 == await revocations.newest(reader)  # no number is taken twice


async def _mark(place: Backup) -> Any:
    """Return the mark of a custodian that has confirmed all, of which nothing is sealed yet."""
    seen = place.marks.read()
    assert seen is not None
    async with place.store.read() as reader:
        number = await revocations.newest(reader)
        return type(seen)(number, seen.signed, await revocations.told(reader, number))


async def test_purges_of_older_versions(custody: "Custody") -> None:
    """Numbers that an older version took for a purge and did not name are filled: nothing is lost with them."""
    place = await Backup(custody).begin()
    async with custody.store.begin(CAUSE) as unit:
        await purging.set_out(unit, "p")
        await place.audit.append(unit, told("approval-requested", action="purge"))
    begun = told("purge-begun", policy_keys=[], availability_keys=[])
    await place.audit.record(begun)
    async with custody.store.begin(CAUSE) as unit:
        await purging.settle(unit, "p")
        await place.audit.append(unit, told("purge-certified", final=True))
    lines = await place.lose()
    found = await place.restoring().check(CAUSE, lines)

    assert ((), "purged") == (found.unreplayed, (await place.ends())[0])
    await place.custodian.epoch.confirm()


async def test_given_up(custody: "Custody") -> None:
    """A purge that was given up is off: its policy is what it was, and its request can't be carried out any more."""
    await custody.policy("p")
    await approve(custody)
    place = await _purging(custody)
    async with custody.store.begin(CAUSE) as unit:
        change = await purging.give_back(unit, "p")
        assert change is not None
        said = {"number": change.number, "state": "active", "ended": "expired"}
        await place.audit.append(unit, told("purge-given-up", **said))
    await place.seal()
    lines = await place.export()
    await go_back(custody.store, 1, place.before)
    async with custody.store.begin(CAUSE) as unit:
        await unit.execute(rows.insert().values(**FIRST, at=unit.clock.now(), publisher="x", announced=True))
        await unit.execute(update(policies).values(state="purging"))
    found = await place.restoring().check(CAUSE, lines)
    async with custody.store.read() as reader:
        state = await reader.scalar(select(approvals.c.state))

    assert ("active", ["purging", "active"]) == await place.ends()
    assert ("expired", ()) == (state, found.unreplayed)


FIRST = {"number": 1, "policy_id": "p", "state": "purging"}


async def _purging(custody: "Custody") -> Backup:
    """Take a backup in which the purge of policy p is asked for."""
    place = Backup(custody)
    async with custody.store.begin(CAUSE) as unit:
        change = await purging.set_out(unit, "p")
        await place.audit.append(unit, told("approval-requested", action="purge", number=change.number))
    await place.seal()
    place.before = len(await custody.audit())
    return place


async def test_revoked_while_a_purge_waits(custody: "Custody") -> None:
    """Law 8: who was revoked while a purge waits goes on being purged, and comes back revoked when that is given up."""
    await custody.policy("p")
    await approve(custody)
    place = await _purging(custody)
    await place.change(REVOKED)
    lines = await place.lose()
    async with custody.store.begin(CAUSE) as unit:
        await unit.execute(rows.insert().values(**FIRST, at=unit.clock.now(), publisher="x", announced=True))
        await unit.execute(update(policies).values(state="purging"))
    await place.restoring().check(CAUSE, lines)
    after, _ = await place.ends()
    async with custody.store.begin(CAUSE) as unit:
        back = await purging.give_back(unit, "p")

    assert ("purging", REVOKED) == (after, back and back.policy.state)


async def test_begun_purge_expired_since(custody: "Custody") -> None:
    """Law 16: a purge that had begun is one, also where its request has expired in the restored database."""
    await custody.policy("p")
    await approve(custody)
    place = await _purging(custody)
    begun = told("purge-begun", policy_keys=[], availability_keys=[])
    await place.audit.record(told("approval-done"), begun)
    lines = await place.lose()
    async with custody.store.begin(CAUSE) as unit:
        await unit.execute(rows.insert().values(**FIRST, at=unit.clock.now(), publisher="x", announced=True))
        await unit.execute(update(policies).values(state="purging"))
        await unit.execute(update(approvals).values(state="expired"))
        await purging.give_back(unit, "p")
    found = await place.restoring().check(CAUSE, lines)
    async with custody.store.read() as reader:
        state = await reader.scalar(select(approvals.c.state))

    assert ("purging", ["purging", "active", "purging"]) == await place.ends()
    assert ("done", ()) == (state, found.unreplayed)


@pytest.mark.parametrize("expired", [False, True])
async def test_asked_purge_is_lost(custody: "Custody", expired: bool) -> None:
    """The request of a purge is lost with its signatures, and named unless it has expired: the policy is as before."""
    place = await Backup(custody).begin()
    async with custody.store.begin(CAUSE) as unit:
        change = await purging.set_out(unit, "p")
        await place.audit.append(unit, told("approval-requested", action="purge", number=change.number))
        if expired:
            back = await purging.give_back(unit, "p")
            assert back is not None
            said = {"number": back.number, "state": "active", "ended": "expired"}
            await place.audit.append(unit, told("purge-given-up", **said))
    lines = await place.lose()
    found = await place.restoring().check(CAUSE, lines)

    assert ("active", ["purging", "active"]) == await place.ends()
    assert ([] if expired else ["approval-requested"]) == [each.kind for each in found.unreplayed]
    await place.custodian.epoch.confirm()


async def test_lost_again(custody: "Custody") -> None:
    """What a replay has written is replayed itself, from the same backup once more."""
    place = await Backup(custody).begin()
    await place.change(REVOKED, ACTIVE, REVOKED)
    lines = await place.lose()
    await place.change(REVOKED, ACTIVE)
    await place.restoring().check(CAUSE, lines)
    ends = await place.ends()
    again = await place.lose()
    found = await place.restoring().check(CAUSE, again)

    assert ends == await place.ends()
    assert ("revoked", ()) == (ends[0], found.unreplayed)


async def test_read_in_pages(custody: "Custody", monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a log is, a seal of it is held at a time, and what the database lacks."""
    place = await Backup(custody).begin()
    for _ in range(8):
        await place.audit.record(*(told("root-key-probed") for _ in range(20)))
        await place.seal()
    place.before = len(await custody.audit())
    await place.change(REVOKED)
    await place.seal()
    lines, held = await place.export(), list[int]()
    await go_back(custody.store, 9, place.before)

    def watched() -> Iterable[str]:
        for number, line in enumerate(lines):
            if number % 20 == 0:  # once in a seal: looking at every object of a long test run takes its time
                held.append(sum(isinstance(each, SimpleNamespace) for each in gc.get_objects()))
            yield line

    monkeypatch.setattr(exported, "PAGE", 3)
    found = await place.restoring().check(CAUSE, watched())

    assert (1, "revoked") == (found.entries, (await place.ends())[0])
    assert max(held) - held[0] < 50  # of 160
