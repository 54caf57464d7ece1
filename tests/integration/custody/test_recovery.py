"""Recovery: the availability key brings a policy onto new root keys, for two approvers and nobody else."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, insert, select, update

from events.answers import read_answer
from events.handler import Received
from events.publisher import Publisher
from schemas.envelope import parse as parse_event
from schemas.identifiers import ApprovalState, AvailabilityMode, GeoState, PolicyState, RequestOutcome, Workload
from schemas.names import RECOVERY_HANDLER, SITE_REENCRYPTOR
from schemas.requests import RecoveryRequested
from tests.integration.custody.conftest import CAUSE, MAC_KEY, SERVICE
from twinlock.approvals.acting import Approvals
from twinlock.approvals.errors import Refused
from twinlock.approvals.exclusion import underway
from twinlock.approvals.installation import ensure_installation
from twinlock.approvals.rows import find_approval, list_approvals
from twinlock.approvals.settings import ApprovalSettings
from twinlock.approvals.statement import parse
from twinlock.approvals.telling import keep
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.errors import KeyRefused
from twinlock.custody.health.verdicts import SlotVerdict, read_standing
from twinlock.custody.lifecycle.recovering import LocalRecovering
from twinlock.custody.port import NewRoot, RecoveryOrder
from twinlock.custody.revocation.mark import MemoryMarks, RestoreGuard
from twinlock.custody.rows import read_policy, read_policy_key
from twinlock.custody.settings import EvidenceRules
from twinlock.custody.unwrap import Unwrapped
from twinlock.custody.view import learn
from twinlock.keys.ports import Outcome, VaultFailure
from twinlock.keys.signing import SigningKey
from twinlock.store.tables.approvals import approvals
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.content import container_keys
from twinlock.store.tables.custody import (
    availability_keys,
    policies,
    policy_key_copies,
    policy_keys,
    root_key_looks,
    root_key_pins,
    root_keys,
)
from twinlock.store.tables.work import geos, jobs
from twinlock.store.unit import StaleRead
from twinlock.vaults.directory import VaultDirectory
from workers import wakeups
from workers.recovery_handler import taking_up
from workers.recovery_handler.recover import Recover
from workers.recovery_handler.retiring import retire
from workers.roster import Workplace, handlers_of
from workers.settings import WorkerSettings
from workers.wakeups import prepare_slots

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

KEYS = {name: SigningKey.generate() for name in ("ann", "bob")}
NEW = ("memory://north/p", "memory://south/p")
SETTINGS = WorkerSettings(trouble_first=1.0)


@dataclass(slots=True)
class Desk:
    """Hold an installation in which policy p is to be recovered, and do what people and the bus would."""

    custody: "Custody"
    audit: AuditLog = field(init=False)
    acts: Approvals = field(init=False)
    recovering: LocalRecovering = field(init=False)

    def __post_init__(self) -> None:
        custody = self.custody
        self.audit = AuditLog(custody.store, "recovery", MAC_KEY, custody.clock)
        self.acts = Approvals(custody.store, self.audit, ApprovalSettings(), tells=True)
        vaults = VaultDirectory({"memory": custody.vault})
        self.recovering = LocalRecovering(
            custody.store, vaults, custody.provider, self.audit, custody.clock, settings=custody.settings
        )

    async def ready(self, workload: Workload = Workload.MAILBOX, **policy: Any) -> None:
        """Make the policy, two approvers and two new keys."""
        store = self.custody.store
        await self.custody.policy("p", workload=workload, **policy)
        async with store.begin(CAUSE) as unit:
            await ensure_installation(unit)
        for worker in (RECOVERY_HANDLER, SITE_REENCRYPTOR):
            await prepare_slots(store, worker, 1)
        for name, key in KEYS.items():
            await self.acts.add_approver(CAUSE, "acme", name, key.public)
        for uri in NEW:
            await self.custody.vault.create_root_key(uri)

    def lose(self, a: Outcome = Outcome.DENIED, b: Outcome = Outcome.DENIED) -> None:
        """Have both old root keys answer so."""
        self.custody.hold("p", a, b)

    async def ask(
        self, keys: tuple[str, str] = NEW, *, although_revoked: bool = False
    ) -> tuple[RequestOutcome | None, dict[str, Any], str]:
        """Ask for a recovery and return the answer."""
        store = self.custody.store
        wanted = RecoveryRequested(policy="p", keys=keys, reason="both lost", although_revoked=although_revoked)
        request = await Publisher(store).request(wanted)
        await self.run()
        async with store.read() as reader:
            found = await read_answer(reader, store.source, request)
        assert found is not None
        return found.outcome, dict(found.answer), found.detail

    async def asked(self, **options: Any) -> str:
        """Ask for a recovery that is not refused, and return the id of its request."""
        outcome, answer, detail = await self.ask(**options)
        assert RequestOutcome.DONE is outcome, detail
        return str(answer["id"])

    async def sign(self, request: str, *names: str) -> None:
        """Have approvers sign, and everything that follows done."""
        async with self.custody.store.read() as reader:
            said = parse((await find_approval(reader, request)).statement)
        for name in names or KEYS:
            await self.acts.approve(CAUSE, request, name, KEYS[name].sign(said.label, said.body))
        await self.run()

    async def run(self) -> None:
        """Deliver what is in the outbox until nothing is left; what nobody here takes is dropped."""
        store = self.custody.store
        none: Any = None  # what the others work with
        place = Workplace(store, none, none, none, none, SETTINGS, self.recovering)
        handlers: dict[str, Any] = {each.handles.type: each for each in handlers_of(place, [RECOVERY_HANDLER])}
        while row := await self._first():
            envelope, event = parse_event(row.body)
            if handler := handlers.get(event.type):
                await self._handle(handler, event, Received(envelope, row.publisher))

    async def _first(self) -> Any:
        async with self.custody.store.begin(CAUSE) as unit:
            row = await unit.row(select(outbox).order_by(outbox.c.number).limit(1))
            if row is not None:
                await unit.execute(delete(outbox).where(outbox.c.number == row.number))
        return row

    async def _handle(self, handler: Any, event: Any, received: Received) -> None:
        for _ in range(5):
            plan = await handler.prepare(event, received)
            try:
                async with self.custody.store.begin(received.cause) as unit:
                    await handler.commit(unit, plan)
            except StaleRead:
                continue
            return
        raise AssertionError("it starts over for ever")

    async def wake(self) -> None:
        """Let the pause of a job pass, and wake the worker as its reconciler does."""
        self.custody.clock.advance(400)
        await wakeups.reconcile(self.custody.store, RECOVERY_HANDLER, 900.0)
        await self.run()

    async def state(self, request: str) -> ApprovalState:
        """Return how far a request is."""
        async with self.custody.store.read() as reader:
            return (await find_approval(reader, request)).state

    async def column(self, column: Any, *conditions: Any) -> list[Any]:
        """Return a column of a table."""
        async with self.custody.store.read() as reader:
            return [row[0] for row in await reader.rows(select(column).where(*conditions).order_by(column))]

    async def audited(self, kind: str) -> list[Any]:
        """Return the details of the audit entries of a kind."""
        return [row.detail for row in await self.custody.audit() if row.kind == kind]

    async def opened(self) -> int:
        """Count the uses of availability keys that the audit log knows of."""
        return len(await self.audited("availability-key-asked"))

    async def change(self, table: Any, **values: Any) -> None:
        """Change rows as somebody would who holds the database."""
        async with self.custody.store.begin(CAUSE) as unit:
            await unit.execute(update(table).values(**values))


@pytest.fixture
def desk(custody: "Custody") -> Desk:
    return Desk(custody)


async def test_law_16_recovered(desk: Desk) -> None:
    """Law 16: with two signatures the policy is on the new root keys, and the old ones, enabled again, open nothing."""
    await desk.ready()
    box = await desk.custody.container("p")
    desk.lose()
    with pytest.raises(KeyRefused):
        await desk.custody.open(box)
    request = await desk.asked()
    await desk.sign(request, "ann")

    assert (ApprovalState.OPEN, 0) == (await desk.state(request), await desk.opened())

    await desk.sign(request, "bob")

    assert ApprovalState.DONE is await desk.state(request)
    assert [] == await desk.column(jobs.c.id, jobs.c.worker == RECOVERY_HANDLER)
    assert set(NEW) == set(await desk.column(root_keys.c.uri))
    assert 2 == len(await desk.column(root_key_pins.c.version))
    assert {} == await desk.custody.verdicts("p")
    assert [1, 2] == await desk.column(policy_keys.c.generation)
    desk.custody.restart()
    opened = await desk.custody.open(box)
    assert not opened.by_availability_key
    desk.lose(Outcome.OK, Outcome.OK)
    for uri in NEW:
        desk.custody.vault.hold(uri, Outcome.DENIED)
    desk.custody.restart()
    asked = desk.custody.asked("p")
    with pytest.raises(KeyRefused):
        await desk.custody.open(box)
    assert asked == desk.custody.asked("p")


async def test_law_16_replayed(desk: Desk) -> None:
    """Law 16: a signature is good for one recovery: not for the next one, and not for the same one again."""
    await desk.ready()
    desk.lose()
    first = await desk.asked()
    async with desk.custody.store.read() as reader:
        said = parse((await find_approval(reader, first)).statement)
    signature = KEYS["ann"].sign(said.label, said.body)
    await desk.acts.cancel(CAUSE, first)
    second = await desk.asked()
    with pytest.raises(Refused, match="no signature of ann"):
        await desk.acts.approve(CAUSE, second, "ann", signature)
    await desk.sign(second)
    with pytest.raises(Refused, match="is done"):
        await desk.sign(second, "ann")

    assert (1, [1, 2]) == (await desk.opened(), await desk.column(policy_keys.c.generation))


async def test_law_15_announced(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 15: what the availability key opens is in the log before its vault is called, and nothing opens without."""
    await desk.ready()
    desk.lose()
    request = await desk.asked()
    uri = desk.custody.availability("p")
    heard: list[int] = []
    inner = desk.custody.provider._answer

    async def watched(operation: str, key: str, work: Callable[[], Any]) -> Any:
        if (operation, key) == ("unwrap", uri):
            heard.append(await desk.opened())
        return await inner(operation, key, work)

    monkeypatch.setattr(desk.custody.provider, "_answer", watched)
    await desk.sign(request)

    assert [1] == heard
    (said,) = await desk.audited("availability-key-asked")
    assert f"recovery {request}" == said["reason"]
    assert [[1]] == [each["generations"] for each in await desk.audited("policy-key-recovered")]


REFUSED = {
    "a key unwraps": (Outcome.DENIED, Outcome.OK, "it unwraps: nothing is lost"),
    "a vault is silent": (Outcome.UNAVAILABLE, Outcome.DENIED, "its vault does not answer"),
    "our own fault": (Outcome.DENIED, Outcome.MISCONFIGURED, "our own access to it is wrong"),
    "nobody can tell": (Outcome.UNCLEAR, Outcome.CORRUPT, "it can't be told yet"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_law_16_not_lost(desk: Desk, name: str) -> None:
    """Law 16: while an old root key could still answer no recovery is requested, and none is carried out."""
    a, b, why = REFUSED[name]
    await desk.ready()
    desk.lose(a, b)
    outcome, _, detail = await desk.ask()

    assert (RequestOutcome.REFUSED, True) == (outcome, why in detail)
    assert [detail] == [each["why"] for each in await desk.audited("approval-refused")]
    desk.lose()
    request = await desk.asked()
    desk.lose(a, b)
    await desk.sign(request)

    assert (ApprovalState.APPROVED, 0) == (await desk.state(request), await desk.opened())
    assert [True] == [why in trouble for trouble in await desk.column(jobs.c.trouble)]
    desk.lose()
    await desk.wake()
    assert ApprovalState.DONE is await desk.state(request)


async def test_law_4_denied_in_an_outage(desk: Desk) -> None:
    """A key that was denied and whose vault is silent now is asked again, not taken for lost (laws 4 and 16)."""
    await desk.ready()
    desk.lose()
    await desk.recovering.examine("p", desk.custody.asker(SERVICE))
    desk.lose(Outcome.UNAVAILABLE, Outcome.UNAVAILABLE)

    assert RequestOutcome.REFUSED is (await desk.ask())[0]
    assert {"a": ("denied", "unavailable"), "b": ("denied", "unavailable")} == await desk.custody.verdicts("p")


async def _revoked(desk: Desk) -> None:
    await desk.custody.set_state("p", PolicyState.REVOKED)


async def _destroyed(desk: Desk) -> None:
    await desk.change(availability_keys, state="destroyed")


async def _nobody(desk: Desk) -> None:
    await desk.change(policies, mode="none")


async def _purging(desk: Desk) -> None:
    request = await desk.asked()
    await desk.change(approvals, action="purge")
    async with desk.custody.store.read() as reader:
        assert [request] == [each.id for each in await underway(reader, "p", desk.custody.clock.now())]


OTHERWISE = {
    "is revoked": _revoked,
    "no availability key that could open it": _destroyed,
    "its mode is none": _nobody,
    "has a request to purge already": _purging,
}


@pytest.mark.parametrize("why", OTHERWISE)
async def test_law_16_refused(desk: Desk, why: str) -> None:
    """Law 16: no recovery of a policy that is revoked, has no availability key, or is to be purged."""
    await desk.ready()
    desk.lose()
    await OTHERWISE[why](desk)
    outcome, _, detail = await desk.ask()

    assert (RequestOutcome.REFUSED, True) == (outcome, why in detail)
    assert why in (await desk.audited("approval-refused"))[-1]["why"]


async def test_law_16_needs_two_people(desk: Desk) -> None:
    """Law 16: a tenant without two approvers can't recover anything."""
    await desk.custody.policy("p")
    async with desk.custody.store.begin(CAUSE) as unit:
        await ensure_installation(unit)
    for uri in NEW:
        await desk.custody.vault.create_root_key(uri)
    desk.lose()

    assert "no two approvers" in (await desk.ask())[2]


async def test_law_16_new_keys(desk: Desk) -> None:
    """Law 16: new keys are checked like those of a new policy, and must not be the old ones: all faults are listed."""
    await desk.ready()
    await desk.custody.vault.create_root_key("memory://north/q", desk.custody.clock.now() + timedelta(days=9))
    desk.custody.vault.hold("memory://south/p", Outcome.DENIED)
    old = desk.custody.roots("p")[0]
    for uri in desk.custody.roots("p"):
        await desk.custody.vault.disable(uri)
    _, first, _ = await desk.ask(("memory://north/q", "memory://north/p"))
    _, second, _ = await desk.ask((old, "memory://south/p"))

    assert ["two-vaults", "no-expiry"] == [each["check"] for each in first["failed"]]
    assert {"round-trip", "new-key"} == {each["check"] for each in second["failed"]}
    assert [] == await desk.column(approvals.c.id)


async def test_law_16_another_key_than_signed(desk: Desk) -> None:
    """Law 16: a new key that has another version by now is not the one that was signed for; it is never used."""
    await desk.ready()
    desk.lose()
    request = await desk.asked()
    await desk.custody.vault.rotate(NEW[1])
    await desk.sign(request)

    assert ApprovalState.APPROVED is await desk.state(request)
    assert ["not the key that was approved" in each for each in await desk.column(jobs.c.trouble)] == [True]
    assert list(desk.custody.roots("p")) == await desk.column(root_keys.c.uri)
    assert [1] == await desk.column(policy_keys.c.generation)


async def test_law_16_over(desk: Desk) -> None:
    """Law 16: what was cancelled or expired, or was signed for another generation, is never carried out."""
    await desk.ready()
    desk.lose()
    ends: dict[ApprovalState, Callable[[str], Any]] = {
        ApprovalState.CANCELLED: lambda request: desk.acts.cancel(CAUSE, request),
        ApprovalState.EXPIRED: lambda _: _later(desk),
    }
    for state, end in ends.items():
        desk.lose()
        request = await desk.asked()
        desk.lose(Outcome.OK, Outcome.OK)
        await desk.sign(request)
        await end(request)
        desk.lose()
        await desk.wake()

        assert state is await desk.state(request)
    request = await desk.asked()
    desk.lose(Outcome.OK, Outcome.OK)
    await desk.sign(request)
    async with desk.custody.store.begin(CAUSE) as unit:
        await unit.execute(
            insert(policy_keys).values(
                policy_id="p", generation=2, commitment=bytes(32), created_at=desk.custody.clock.now()
            )
        )
        await unit.execute(update(policies).values(newest_generation=2))
    await desk.wake()

    assert ApprovalState.CANCELLED is await desk.state(request)
    assert (0, []) == (await desk.opened(), await desk.column(jobs.c.id))


async def _later(desk: Desk) -> None:
    desk.custody.clock.advance(8 * 86400)


async def test_asked_twice(desk: Desk) -> None:
    """The same recovery asked for again is the same request; another one is refused while the first one waits."""
    await desk.ready()
    for uri in ("memory://north/z", "memory://south/z"):
        await desk.custody.vault.create_root_key(uri)
    desk.lose()
    request = await desk.asked()

    assert request == await desk.asked()
    assert "has a request to recover already" in (await desk.ask(("memory://north/z", "memory://south/z")))[2]
    async with desk.custody.store.read() as reader:
        assert 1 == len(await list_approvals(reader))


async def test_although_revoked(desk: Desk) -> None:
    """A revoked policy is recovered where that was signed, and stays revoked: nothing opens by it (law 16)."""
    await desk.ready()
    box = await desk.custody.container("p")
    desk.lose()
    await desk.custody.set_state("p", PolicyState.REVOKED)
    request = await desk.asked(although_revoked=True)
    async with desk.custody.store.read() as reader:
        assert b'"although_revoked": true' in (await find_approval(reader, request)).statement
    await desk.sign(request)

    assert (ApprovalState.DONE, ["revoked"]) == (await desk.state(request), await desk.column(policies.c.state))
    desk.custody.restart()
    with pytest.raises(KeyRefused):
        await desk.custody.open(box)
    await desk.custody.set_state("p", PolicyState.ACTIVE)
    assert await desk.custody.open(box)


async def test_every_generation(desk: Desk) -> None:
    """Where a roll had not ended, every generation that is left comes along, each by its own availability copy."""
    await desk.ready()
    box = await desk.custody.container("p")
    desk.lose()
    await desk.sign(await desk.asked())
    old, newer = ("memory://north/p", "memory://south/p"), ("memory://north/z", "memory://south/z")
    for uri in newer:
        await desk.custody.vault.create_root_key(uri)
    for uri in old:
        desk.custody.vault.hold(uri, Outcome.DENIED)
    await desk.sign(await desk.asked(keys=newer))

    assert [1, 2, 3] == await desk.column(policy_keys.c.generation)
    assert set(newer) == set(await desk.column(policy_key_copies.c.uri, policy_key_copies.c.slot != "availability"))
    states = await desk.column(availability_keys.c.state)
    assert ["present", "retired", "retired"] == states
    desk.custody.restart()
    assert await desk.custody.open(box)


async def test_retired_then_destroyed(desk: Desk) -> None:
    """A replaced availability key is destroyed when nothing is wrapped under it, and not before; the new one stays."""
    await desk.ready()
    await desk.custody.container("p")
    desk.lose()
    await desk.sign(await desk.asked())
    await retire(desk.custody.store, desk.recovering)

    assert ["present", "retired"] == await desk.column(availability_keys.c.state)
    async with desk.custody.store.begin(CAUSE) as unit:
        await unit.execute(delete(container_keys))
        await unit.execute(delete(policy_key_copies).where(policy_key_copies.c.generation == 1))
        await unit.execute(delete(policy_keys).where(policy_keys.c.generation == 1))
    for _ in range(2):
        await retire(desk.custody.store, desk.recovering)

    assert ["destroyed", "present"] == await desk.column(availability_keys.c.state)
    with pytest.raises(VaultFailure):
        await desk.custody.provider.describe(desk.custody.availability("p"))
    assert 1 == len(await desk.audited("availability-key-destroyed"))


async def test_law_4_a_late_denial(desk: Desk) -> None:
    """Law 4: what was on its way from an old root key says nothing about the new one that took its place."""
    await desk.ready()
    store, now = desk.custody.store, desk.custody.clock.now()
    async with store.read() as reader:
        before = await read_policy_key(reader, await read_policy(reader, "p"), 1)
    desk.lose()
    await desk.sign(await desk.asked())
    (slot, _) = before.copies.keys() - {"availability"}
    late = Unwrapped(None, None, (SlotVerdict(slot, Outcome.DENIED, now, exact=True),))
    await learn(store, before, late, CAUSE, EvidenceRules())

    async with store.read() as reader:
        assert (Outcome.OK, Outcome.OK) == (await read_standing(reader, "p")).outcomes


async def test_law_6_only_for_an_order(desk: Desk) -> None:
    """Law 6: the custodian of recovery wraps under keys that were signed for, and stores nothing."""
    await desk.ready(mode=AvailabilityMode.RECOVERY_ONLY)
    desk.lose()
    await desk.recovering.examine("p", desk.custody.asker(SERVICE))
    order = RecoveryOrder("r", "p", (NewRoot(NEW[0], "1", "other"), NewRoot(NEW[1], "1", "other")))
    with pytest.raises(KeyRefused, match="not the key that was approved"):
        await desk.recovering.recover(order, desk.custody.asker(SERVICE))

    assert list(desk.custody.roots("p")) == await desk.column(root_keys.c.uri)
    assert [1] == await desk.column(policy_keys.c.generation)


async def test_sites_are_recovering(desk: Desk) -> None:
    """A geo whose policy is recovered is `recovering`, and has its roll ordered in the same transaction."""
    await desk.ready(Workload.SITE, mode=AvailabilityMode.RECOVERY_ONLY)
    async with desk.custody.store.begin(CAUSE) as unit:
        geo = {"tenant_id": "acme", "geo": "EUR", "policy_id": "p", "version": 1, "since": desk.custody.clock.now()}
        await unit.execute(insert(geos).values(geo | {"state": GeoState.REGISTERED}))
    desk.lose()
    request = await desk.asked()
    await desk.sign(request)

    assert ["recovering"] == await desk.column(geos.c.state)
    assert [f"roll:{request}"] == await desk.column(jobs.c.id)


async def test_law_16_another_policys_key(desk: Desk) -> None:
    """Law 16: a row that somebody moved has no availability key of another policy destroyed."""
    custody = desk.custody
    await desk.ready()
    await custody.policy("q")
    moved = {"policy_id": "p", "uri": custody.availability("q"), "state": "retired"}
    async with custody.store.begin(CAUSE) as unit:
        await unit.execute(insert(availability_keys).values(moved))
    await retire(custody.store, desk.recovering)

    with pytest.raises(KeyRefused, match="no availability key of policy p"):
        await desk.recovering.destroy_availability_key("p", custody.availability("q"), custody.asker(SERVICE))
    await custody.provider.describe(custody.availability("q"))


async def test_law_16_restored(desk: Desk) -> None:
    """Law 16: on a restored database no root key is asked for a request that may have been cancelled since."""
    await desk.ready()
    desk.recovering._guard = RestoreGuard(MemoryMarks(), lambda: None)

    with pytest.raises(KeyRefused, match="restored"):
        await desk.recovering.examine("p", desk.custody.asker(SERVICE))


async def test_looked_at_anew(desk: Desk) -> None:
    """What was noticed of the old root keys is not taken for what is to be told of the new ones: a look is due."""
    await desk.ready()
    seen = {"policy_id": "p", "looked_at": desk.custody.clock.now(), "version": "1", "notice": "version 1 expires"}
    async with desk.custody.store.begin(CAUSE) as unit:
        await unit.execute(insert(root_key_looks), [{**seen, "slot": slot} for slot in ("a", "b")])
    desk.lose()
    request = await desk.asked()
    for name in KEYS:
        await desk.sign(request, name)

    assert ["", ""] == await desk.column(root_key_looks.c.version)


async def test_found_by_looking(desk: Desk) -> None:
    """Where the fact was lost the worker finds the approved request by itself, once, after a while."""
    await desk.ready()
    desk.lose()
    request = await desk.asked()
    async with desk.custody.store.read() as reader:
        said = parse((await find_approval(reader, request)).statement)
    for name, key in KEYS.items():
        await desk.acts.approve(CAUSE, request, name, key.sign(said.label, said.body))
    async with desk.custody.store.begin(CAUSE) as unit:
        await unit.execute(delete(outbox))
    carrying: Any = {"recover": Recover(desk.custody.store, desk.recovering)}
    found = []
    for seconds in (0, 5, 6, 0):
        desk.custody.clock.advance(seconds)
        await taking_up.look(desk.custody.store, carrying, 10.0)
        found.append(len(await desk.column(jobs.c.id, jobs.c.worker == RECOVERY_HANDLER)))
    await desk.run()

    assert [0, 0, 1, 1] == found
    assert ApprovalState.DONE is await desk.state(request)


async def test_alerts_of_each_step(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requested, approved and carried out: each is told to the customer and to engineering."""
    await desk.ready()
    desk.lose()
    told = _told(monkeypatch)
    await desk.sign(await desk.asked())

    assert ["customer", "engineering"] * 3 == [audience for audience, _ in told]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("end", ["cancelled", "expired"])
async def test_alerts_of_a_recovery_that_is_off(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, signed: bool, end: str
) -> None:
    """A recovery that is cancelled, expires, or is given up by the worker is told to both, once."""
    await desk.ready()
    desk.lose()
    request = await desk.asked()
    if signed:
        desk.custody.hold("p", Outcome.OK, Outcome.OK)  # nothing is carried out while a root key answers
        await desk.sign(request)
    told = _told(monkeypatch)
    if end == "cancelled":
        await desk.acts.cancel(CAUSE, request)
    else:
        desk.custody.clock.advance(31 * 86400)
        await keep(desk.custody.store, desk.audit)
    await desk.wake()
    await desk.wake()

    why = "is off" if end == "cancelled" else "was not carried out in time, and is off"
    assert [(each, f"policy acme/p: the recovery {why}") for each in ("customer", "engineering")] == told


def _told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return what is to be filled with the alerts about recoveries: for whom, and what."""
    told: list[tuple[str, str]] = []
    take = Desk._first

    async def watched(self: Desk) -> Any:
        row = await take(self)
        if row is not None and row.type == "twinlock.alert.raised.v1":
            event: Any = parse_event(row.body)[1]
            told.extend([(event.audience, event.detail)] if event.kind == "recovery" else [])
        return row

    monkeypatch.setattr(Desk, "_first", watched)
    return told
