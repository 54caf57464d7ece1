"""Law 16: two people, on both databases: what is refused, what is audited, and what is carried out."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, select, update

from schemas.envelope import parse as parse_event
from schemas.event import Event
from schemas.facts import AlertRaised, ApprovalGranted, ApprovalRequested, ApprovalSettled, PolicyRestored
from schemas.identifiers import ApprovalState, PolicyState
from twinlock.approvals import telling
from twinlock.approvals.acting import Approvals
from twinlock.approvals.approvers import Tenant, read_approvers
from twinlock.approvals.begun import check_begun
from twinlock.approvals.errors import BrokenApprovers, Refused
from twinlock.approvals.installation import ensure_installation, read_installation
from twinlock.approvals.requests import Wanted, check, request
from twinlock.approvals.rows import Approval, find_approval
from twinlock.approvals.settings import ApprovalSettings
from twinlock.approvals.statement import Action, NewKey, parse
from twinlock.clock import ManualClock
from twinlock.custody.audit.log import AuditLog, is_genuine
from twinlock.custody.policies import Policy, load_policy
from twinlock.custody.revocation import revocations
from twinlock.errors import NotFound, TwinlockError
from twinlock.keys.signing import SigningKey
from twinlock.store.tables.approvals import approval_signatures, approvals, approver_changes, installation
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.custody import audit_entries, policies
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store

CAUSE = Cause("test")
MAC_KEY = bytes(32)
ANN, BOB, CEDRIC, EVE = (SigningKey.generate() for _ in range(4))
KEYS = {"ann": ANN, "bob": BOB, "cedric": CEDRIC}


@dataclass(slots=True)
class Office:
    """Hold an installation with two tenants, and do what people would."""

    store: Store
    clock: ManualClock
    acts: Approvals

    async def add(self, name: str, key: SigningKey | None = None, tenant: str = "acme") -> Any:
        """Add an approver, or ask for it."""
        return await self.acts.add_approver(CAUSE, tenant, name, (key or KEYS[name]).public)

    async def two(self) -> None:
        """Give the tenant its first two approvers."""
        await self.add("ann")
        await self.add("bob")

    async def leave(self, name: str) -> Approval:
        """Ask for the removal of an approver."""
        asked = await self.acts.remove_approver(CAUSE, "acme", name)
        assert isinstance(asked, Approval)
        return asked

    async def policy(self, policy: str = "p") -> Policy:
        """Read a policy."""
        async with self.store.read() as reader:
            found = await load_policy(reader, policy)
        assert found is not None
        return found

    async def revoke(self, policy: str = "p") -> None:
        """Revoke a policy as the command does."""
        async with self.store.begin(CAUSE) as unit:
            await revocations.change(unit, policy, PolicyState.REVOKED, None)

    async def restore(self, policy: str = "p") -> Any:
        """Restore a policy, or ask for it."""
        return await self.acts.restore(CAUSE, await self.policy(policy), "it was a mistake")

    async def waiting(self) -> Approval:
        """Return a request to lift a revocation, which nobody has signed yet."""
        await self.two()
        await self.revoke()
        asked = await self.restore()
        assert isinstance(asked, Approval)
        return asked

    async def sign(self, approval: Approval, by: str, key: SigningKey | None = None) -> Approval:
        """Sign a request as an approver, with whatever key."""
        said = parse(approval.statement)
        return await self.acts.approve(CAUSE, approval.id, by, (key or KEYS[by]).sign(said.label, said.body))

    async def both(self, approval: Approval) -> Approval:
        """Have the first two sign."""
        await self.sign(approval, "ann")
        return await self.sign(approval, "bob")

    async def change(self, table: Table, **values: Any) -> None:
        """Change rows as somebody would who holds the database."""
        async with self.store.begin(CAUSE) as unit:
            await unit.execute(update(table).values(**values))

    async def told(self) -> list[Event]:
        """Return the events in the outbox, in their order."""
        async with self.store.read() as reader:
            return [parse_event(row.body)[1] for row in await reader.rows(select(outbox).order_by(outbox.c.number))]

    async def audited(self, kind: str) -> list[dict[str, Any]]:
        """Return what the audit log holds of a kind, every entry genuine."""
        async with self.store.read() as reader:
            rows = await reader.rows(select(audit_entries).order_by(audit_entries.c.sequence))
        assert all(is_genuine(MAC_KEY, row) for row in rows)
        return [{"tenant": row.tenant_id, "policy": row.policy_id, **row.detail} for row in rows if row.kind == kind]

    async def refused(self, approval: Approval, by: str, key: SigningKey | None, why: str) -> None:
        """See that a signature is refused, audited, and leaves no trace but that."""
        before = await self.stands(approval)
        count = len(await self.audited("approval-refused"))
        with pytest.raises(Refused, match=why):
            await self.sign(approval, by, key)
        entries = (await self.audited("approval-refused"))[count:]

        assert [("sign", "t-acme", "p", approval.id, by)] == [
            (each["act"], each["tenant"], each["policy"], each["request"], each["by"]) for each in entries
        ]
        assert why in entries[0]["why"]
        assert before == await self.stands(approval)

    async def stands(self, approval: Approval) -> tuple[Any, ...]:
        """Return how a request stands, and the policy."""
        async with self.store.read() as reader:
            found = await find_approval(reader, approval.id)
        return found.version, found.state, len(found.signed), (await self.policy()).state


def _policy(policy: str, tenant: str, clock: ManualClock) -> dict[str, Any]:
    return {
        "id": policy,
        "tenant_id": tenant,
        "name": policy,
        "workload": "mailbox",
        "mode": "standard",
        "state": "active",
        "health": "healthy",
        "newest_generation": 1,
        "version": 1,
        "created_at": clock.now(),
    }


@pytest.fixture
async def office(store: Store, clock: ManualClock) -> Office:
    """Return an installation with the tenants acme and other, and the policies p and q of acme and r of other."""
    async with store.begin(CAUSE) as unit:
        await ensure_installation(unit)
        for name in ("acme", "other"):
            await unit.execute(insert(tenants).values(id=f"t-{name}", name=name, trial=False, created_at=clock.now()))
        for policy, tenant in (("p", "t-acme"), ("q", "t-acme"), ("r", "t-other")):
            await unit.execute(insert(policies).values(_policy(policy, tenant, clock)))
    audit = AuditLog(store, "test", MAC_KEY, clock)
    return Office(store, clock, Approvals(store, audit, ApprovalSettings(), tells=True))


async def test_law_16_lifted_by_two(office: Office) -> None:
    """Law 16: a revocation is lifted with the second signature and not before; every step is told and audited."""
    approval = await office.waiting()
    once = await office.sign(approval, "ann")

    assert (ApprovalState.OPEN, PolicyState.REVOKED) == (once.state, (await office.policy()).state)

    done = await office.sign(approval, "bob")

    assert (ApprovalState.DONE, PolicyState.ACTIVE) == (done.state, (await office.policy()).state)
    facts = [each for each in await office.told() if not isinstance(each, AlertRaised)]
    mine = [each for each in facts if isinstance(each, ApprovalRequested | ApprovalGranted | ApprovalSettled)]

    assert [(1, "requested"), (2, "ann"), (3, "bob"), (4, "approved"), (5, "done")] == [
        (each.version, getattr(each, "approver", getattr(each, "state", "requested"))) for each in mine
    ]
    assert 1 == sum(isinstance(each, PolicyRestored) for each in facts)
    for kind, count in (
        ("approval-requested", 1),
        ("approval-signed", 2),
        ("approval-done", 1),
        ("policy-restored", 1),
    ):
        assert count == len(await office.audited(kind))


async def test_law_16_operator_alone(office: Office) -> None:
    """Law 16: without two approvers the operator alone lifts a revocation, and that is audited."""
    await office.add("ann")
    await office.revoke()

    assert PolicyState.ACTIVE is (await office.restore()).policy.state
    assert [("t-acme", "p")] == [(each["tenant"], each["policy"]) for each in await office.audited("policy-restored")]


@pytest.mark.parametrize("days", [-1, 1, 3650])
async def test_law_16_wrong_clock(office: Office, days: int) -> None:
    """Law 16: however the clock is set, then or now, the operator alone lifts nothing once there are two approvers."""
    office.clock.advance(86400 * 2)
    await office.two()
    await office.revoke()
    office.clock.advance(86400 * days)
    with contextlib.suppress(Refused):  # they do not count before they were added
        await office.restore()

    assert PolicyState.REVOKED is (await office.policy()).state


async def test_law_16_revoked_meanwhile(office: Office) -> None:
    """Law 16: a revocation that commits while somebody restores is not lifted by the operator alone."""
    await office.two()
    async with asyncio.TaskGroup() as group, office.store.begin(CAUSE) as unit:
        await revocations.change(unit, "p", PolicyState.REVOKED, None)
        restoring = group.create_task(office.restore())
        await asyncio.sleep(0.2)  # until it waits for what is not committed yet

    assert isinstance(restoring.result(), Approval)
    assert PolicyState.REVOKED is (await office.policy()).state


async def test_law_16_asked_once(office: Office) -> None:
    """Law 16: the same request is not made twice while it is open; another policy's is another one."""
    approval = await office.waiting()
    await office.revoke("q")

    assert approval.id == (await office.restore()).id
    assert approval.id != (await office.restore("q")).id


async def test_law_16_at_the_same_time(office: Office) -> None:
    """Law 16: of signatures that come at the same moment each counts once, and it is carried out once."""
    approval = await office.waiting()
    async with asyncio.TaskGroup() as group:
        signing = [group.create_task(office.sign(approval, name)) for name in ("ann", "bob")]

    assert {ApprovalState.OPEN, ApprovalState.DONE} == {task.result().state for task in signing}
    assert (1, 2) == (len(await office.audited("policy-restored")), len(await office.audited("approval-signed")))


async def test_law_16_forged(office: Office) -> None:
    """Law 16: a signature that is another key's, another person's or broken is refused and audited."""
    approval = await office.waiting()
    for by, key in (("ann", EVE), ("ann", BOB), ("bob", ANN)):
        await office.refused(approval, by, key, "no signature of")
    said = parse(approval.statement)
    signature = ANN.sign(said.label, said.body)
    for broken in (signature[:-1], b"", bytes(64), signature[:-1] + bytes([signature[-1] ^ 1])):
        with pytest.raises(Refused, match="no signature of ann"):
            await office.acts.approve(CAUSE, approval.id, "ann", broken)

    assert 7 == len(await office.audited("approval-refused"))


async def test_law_16_no_approver(office: Office) -> None:
    """Law 16: whoever is no approver of this tenant is refused, another tenant's approver too."""
    approval = await office.waiting()
    await office.add("eve", EVE, "other")

    for name in ("eve", "nobody"):
        await office.refused(approval, name, EVE, "is no approver of tenant acme")


async def test_law_16_same_person_twice(office: Office) -> None:
    """Law 16: the same approver counts once, however often and by whatever name."""
    approval = await office.waiting()
    await office.sign(approval, "ann")
    await office.refused(approval, "ann", ANN, "has signed request")
    await office.refused(approval, "bob", ANN, "no signature of bob")


async def test_law_16_replayed(office: Office) -> None:
    """Law 16: a signature over one request is void for every other, for the next one of the same kind too."""
    first = await office.waiting()
    said = parse(first.statement)
    old = {name: KEYS[name].sign(said.label, said.body) for name in ("ann", "bob")}
    await office.both(first)
    await office.revoke()
    second = await office.restore()
    for name, signature in old.items():
        with pytest.raises(Refused, match="no signature of"):
            await office.acts.approve(CAUSE, second.id, name, signature)
        with pytest.raises(Refused, match="is done"):
            await office.acts.approve(CAUSE, first.id, name, signature)

    assert 4 == len(await office.audited("approval-refused"))
    assert PolicyState.REVOKED is (await office.policy()).state


async def test_law_16_expired(office: Office) -> None:
    """Law 16: a request that waited too long takes no signature, is closed, and can be made again."""
    approval = await office.waiting()
    await office.sign(approval, "ann")
    office.clock.advance(7 * 86400)
    await office.refused(approval, "bob", BOB, "is expired")
    again = await office.restore()
    async with office.store.read() as reader:
        closed = await find_approval(reader, approval.id)

    assert approval.id != again.id
    assert ApprovalState.EXPIRED is closed.state
    assert ["expired"] == [each.state for each in await office.told() if isinstance(each, ApprovalSettled)]


async def test_law_16_cancelled(office: Office) -> None:
    """Law 16: a cancelled request takes no signature, and can't be cancelled again."""
    approval = await office.waiting()
    await office.sign(approval, "ann")
    await office.acts.cancel(CAUSE, approval.id)
    await office.refused(approval, "bob", BOB, "is cancelled")
    with pytest.raises(Refused, match="is cancelled"):
        await office.acts.cancel(CAUSE, approval.id)

    assert 1 == len(await office.audited("approval-cancelled"))
    assert ["cancelled"] == [each.state for each in await office.told() if isinstance(each, ApprovalSettled)]


ELSEWHERE: dict[str, Callable[[Any], dict[str, Any]]] = {
    "policy": lambda said: {"policy": replace(said.policy, id="q", name="q")},
    "generation": lambda said: {"policy": replace(said.policy, generation=2)},
    "tenant": lambda said: {"tenant_id": "t-other", "tenant": "other"},
    "installation": lambda said: {"installation": "another"},
    "request": lambda said: {"request": "another"},
    "action": lambda said: {"action": Action.ADD_APPROVER},
    "expiry": lambda said: {"expires": said.expires + timedelta(days=365)},
    "nothing": lambda said: {"policy": None},
}


@pytest.mark.parametrize("what", ELSEWHERE)
async def test_law_16_statement_of_something_else(office: Office, what: str) -> None:
    """Law 16: good signatures over a statement of anything else are refused, whoever put it into the row."""
    approval = await office.waiting()
    said = parse(approval.statement)
    other = replace(said, **ELSEWHERE[what](said))
    await office.change(approvals, statement=other.encode())
    await office.refused(replace(approval, statement=other.encode()), "ann", ANN, "is about something else")


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (approvals, {"policy_id": "q"}),
        (policies, {"newest_generation": 2}),
        (installation, {"id": "another"}),
        (approvals, {"action": "remove-approver"}),
    ],
)
async def test_law_16_things_moved_on(office: Office, table: Table, values: dict[str, Any]) -> None:
    """Law 16: the last signature carries nothing out where a thing is not as the first one signed it."""
    approval = await office.waiting()
    await office.sign(approval, "ann")
    await office.change(table, **values)
    with pytest.raises(TwinlockError):
        await office.sign(approval, "bob")

    assert PolicyState.REVOKED is (await office.policy()).state


async def test_law_16_checked_again(office: Office) -> None:
    """Law 16: signatures are verified again when it is carried out: rows alone approve nothing."""
    approval = await office.waiting()
    await office.both(approval)
    await office.revoke()
    await office.change(approvals, state="approved")
    async with office.store.begin(CAUSE) as unit:
        checked = await check(unit, approval.id)

        assert ["ann", "bob"] == sorted(each.name for each in checked.approval.signed)
    await office.change(approval_signatures, signature=bytes(64))
    async with office.store.begin(CAUSE) as unit:
        with pytest.raises(Refused, match="not signed by two approvers"):
            await check(unit, approval.id)
    async with office.store.begin(CAUSE) as unit:
        await unit.execute(delete(approval_signatures))
        with pytest.raises(Refused, match="not signed by two approvers"):
            await check(unit, approval.id)
    office.clock.advance(7 * 86400)
    async with office.store.begin(CAUSE) as unit:
        with pytest.raises(Refused, match="is expired"):
            await check(unit, approval.id)


async def test_law_16_no_room_for_the_first_two(office: Office) -> None:
    """Law 16: the first two can't come or go while a policy of the tenant is revoked, or a request is open."""
    await office.add("ann")
    for state in (PolicyState.REVOKED, PolicyState.PURGING):
        async with office.store.begin(CAUSE) as unit:
            await unit.execute(update(policies).where(policies.c.id == "q").values(state=state.value))
        with pytest.raises(Refused, match="acme/q is revoked or being purged"):
            await office.add("bob")
        with pytest.raises(Refused, match="acme/q is revoked or being purged"):
            await office.acts.remove_approver(CAUSE, "acme", "ann")
    await office.add("eve", EVE, "other")  # whose policies are none of acme's

    assert 4 == len(await office.audited("approval-refused"))


async def test_law_16_first_two_beside_an_open_request(office: Office) -> None:
    """Law 16: nor do approvers come for a request that is open already."""
    approval = await office.waiting()
    await office.change(policies, state="active")
    async with office.store.begin(CAUSE) as unit:
        await unit.execute(delete(approver_changes))
    with pytest.raises(Refused, match="has an open request"):
        await office.add("ann", EVE)

    assert ApprovalState.OPEN is (await office.stands(approval))[1]


async def test_law_16_third_waits(office: Office) -> None:
    """Law 16: a third approver needs two signatures, alerts the others, and signs nothing for 72 h."""
    await office.two()
    asked = await office.add("cedric")
    done = await office.both(asked)
    await office.revoke()
    approval = await office.restore()
    await office.sign(approval, "ann")

    assert done.due == office.clock.now() + timedelta(hours=72)
    office.clock.advance(72 * 3600 - 1)
    await office.refused(approval, "cedric", CEDRIC, "the signatures of cedric count from")
    office.clock.advance(1)

    assert ApprovalState.DONE is (await office.sign(approval, "cedric")).state
    alerts = [each for each in await office.told() if isinstance(each, AlertRaised) and each.kind == "approver-change"]

    assert ["info", "info", "warning"] == [each.severity for each in alerts]
    assert "cedric joins the approvers of tenant acme, and counts from" in alerts[-1].detail


async def test_law_16_removed(office: Office) -> None:
    """Law 16: from its removal on nothing that an approver signs counts, and what it has signed neither."""
    await office.two()
    await office.both(await office.add("cedric"))
    office.clock.advance(72 * 3600)
    await office.revoke()
    approval = await office.restore()
    await office.sign(approval, "ann")
    leaving = await office.leave("ann")
    await office.sign(leaving, "cedric")
    await office.sign(leaving, "bob")

    assert 0 == (await office.stands(approval))[2]
    await office.refused(approval, "ann", ANN, "ann is no approver")
    await office.sign(approval, "bob")

    assert ApprovalState.DONE is (await office.sign(approval, "cedric")).state


async def test_law_16_begun(office: Office) -> None:
    """Law 16: what has begun goes on for whoever counted then, and only while the signatures of then verify."""
    await office.two()
    await office.both(await office.add("cedric"))
    office.clock.advance(72 * 3600)
    await office.revoke()
    approval = await office.restore()
    await office.both(approval)
    began = office.clock.now()
    office.clock.advance(1)
    leaving = await office.leave("ann")
    for name in ("cedric", "bob"):
        await office.sign(leaving, name)

    async def checked(at: datetime) -> None:
        async with office.store.read() as reader:
            await check_begun(reader, await find_approval(reader, approval.id), at)

    await checked(began)
    with pytest.raises(Refused, match="two approvers who counted when it was begun"):
        await checked(office.clock.now())
    with pytest.raises(Refused, match="did not hold"):
        await checked(approval.expires_at)
    await office.change(approval_signatures, signature=bytes(64))
    with pytest.raises(Refused, match="two approvers who counted when it was begun"):
        await checked(began)


async def test_law_16_never_below_two(office: Office) -> None:
    """Law 16: two approvers can't sign themselves away, after which the operator alone would decide."""
    await office.two()
    asked = await office.leave("bob")
    await office.sign(asked, "ann")
    with pytest.raises(Refused, match="fewer than two approvers would be left"):
        await office.sign(asked, "bob")

    assert 1 == (await office.stands(asked))[2]


async def test_law_16_a_key_once(office: Office) -> None:
    """Law 16: a fingerprint appears once in a tenant; a name is one approver's at a time."""
    await office.add("ann")
    with pytest.raises(Refused, match="each counts once, for good"):
        await office.add("bob", ANN)
    with pytest.raises(Refused, match="an approver ann already"):
        await office.add("ann", BOB)
    await office.acts.remove_approver(CAUSE, "acme", "ann")
    with pytest.raises(Refused, match="each counts once, for good"):
        await office.add("bob", ANN)
    await office.add("ann", BOB)
    await office.add("ann", ANN, "other")

    assert 3 == len(await office.audited("approval-refused"))
    with pytest.raises(NotFound):
        await office.acts.remove_approver(CAUSE, "acme", "nobody")
    with pytest.raises(NotFound):
        await office.add("ann", tenant="nobody")


async def test_law_16_one_change_after_another(office: Office) -> None:
    """Law 16: of two changes that were signed for the same set of approvers, the second one is void."""
    await office.two()
    first, second = await office.add("cedric"), await office.add("eve", EVE)
    await office.sign(second, "ann")
    await office.both(first)
    with pytest.raises(Refused, match="another change"):
        await office.sign(second, "bob")
    async with office.store.read() as reader:
        names = [each.name for each in (await read_approvers(reader, "t-acme")).members]

    assert ["ann", "bob", "cedric"] == names


@pytest.mark.parametrize("values", [{"public_key": EVE.public}, {"counts_from": None}, {"signatures": [["x"]]}])
async def test_law_16_rows_rewritten(office: Office, values: dict[str, Any]) -> None:
    """Law 16: approvers who were put into the rows by hand approve nothing, and it is said aloud."""
    approval = await office.waiting()
    values = {name: value or office.clock.now() - timedelta(days=1) for name, value in values.items()}
    await office.change(approver_changes, **values)
    with pytest.raises(BrokenApprovers, match="do not verify"):
        await office.sign(approval, "ann", EVE)
    with pytest.raises(BrokenApprovers):
        await office.add("cedric")

    assert ["sign", "add-approver"] == [each["act"] for each in await office.audited("approval-refused")]


async def test_law_16_plug(office: Office) -> None:
    """Law 16: what another worker carries out stays approved until it is checked there, with its new keys named."""
    await office.two()
    keys = (NewKey("a", "local://v/k", "1", "f1"), NewKey("b", "local://w/k", "1", "f2"))
    wanted = Wanted(Action.RESTORE_POLICY, "acme/p", "both lost", await office.policy(), keys)
    async with office.store.begin(CAUSE) as unit:
        asked = await request(unit, Tenant("t-acme", "acme"), wanted, ApprovalSettings())
        await unit.execute(update(approvals).values(state="approved"))
        with pytest.raises(Refused, match="not signed by two"):
            await check(unit, asked.id)
    async with office.store.begin(CAUSE) as unit:
        with pytest.raises(Refused, match="no two approvers"):
            await request(unit, Tenant("t-other", "other"), wanted, ApprovalSettings())

    assert keys == parse(asked.statement).keys


async def test_told_by_a_worker(office: Office) -> None:
    """Where commands may tell nothing a worker tells it all, in its order and once, and closes what is overdue."""
    office.acts = replace(office.acts, tells=False)
    approval = await office.waiting()
    await office.sign(approval, "ann")

    assert [] == await office.told()
    await telling.keep(office.store, office.acts.audit)
    office.clock.advance(7 * 86400)
    for _ in range(2):
        await telling.keep(office.store, office.acts.audit)
    told = [type(each) for each in await office.told()]

    assert [ApprovalRequested, ApprovalGranted, AlertRaised, AlertRaised, ApprovalSettled] == told
    async with office.store.read() as reader:
        assert ApprovalState.EXPIRED is (await find_approval(reader, approval.id)).state


async def test_installation_id_is_for_good(office: Office, store: Store) -> None:
    """The installation's id is made once and never changes."""
    async with store.begin(CAUSE) as unit:
        first = await read_installation(unit)

        assert not await ensure_installation(unit)
        assert first == await read_installation(unit)
        await unit.execute(delete(installation))
        with pytest.raises(TwinlockError, match="has no id"):
            await read_installation(unit)
