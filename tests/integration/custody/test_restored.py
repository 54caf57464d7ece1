"""A custodian whose database was brought back to an older state, on both databases; below the commands."""

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, insert, select, update

from cli.wiring.marking import make_mark, marks_of
from schemas.identifiers import PolicyState
from twinlock.approvals.acting import Approvals
from twinlock.approvals.settings import ApprovalSettings
from twinlock.custody.audit.believing import LogKeys
from twinlock.custody.audit.chain import moment
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.audit.reading import walk
from twinlock.custody.audit.sealing import Sealer
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.errors import KeyRefused
from twinlock.custody.lifecycle.recovering import LocalRecovering
from twinlock.custody.port import NewRoot, RecoveryOrder
from twinlock.custody.revocation import revocations
from twinlock.custody.revocation.mark import Mark, Marks, MemoryMarks, Restored, RestoreGuard
from twinlock.errors import NotFound
from twinlock.keys.signing import SigningKey
from twinlock.restoring.checking import Checked, Restoring
from twinlock.store.tables.approvals import approval_signatures, approvals
from twinlock.store.tables.custody import (
    audit_checkpoints,
    audit_entries,
    audit_seals,
    availability_keys,
    policies,
    policy_key_copies,
)
from twinlock.store.tables.custody import revocations as rows
from twinlock.store.tables.purges import purges
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause, Store
from twinlock.vaults.directory import VaultDirectory

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

CAUSE, MAC_KEY = Cause("test"), bytes(32)


class Installation:
    """Hold a custodian with a mark, and what seals and exports its log."""

    def __init__(self, custody: "Custody") -> None:
        self.custody, self.store = custody, custody.store
        self.key, self.marks = SigningKey.generate(), MemoryMarks(Mark())
        self.audit = AuditLog(self.store, "custodian", MAC_KEY, custody.clock)
        vaults, guard = VaultDirectory({"memory": custody.vault}), self.guard(self.marks)
        self.custodian = LocalCustodian(self.store, vaults, custody.provider, self.audit, custody.clock, guard=guard)

    def guard(self, marks: Marks) -> RestoreGuard:
        """Return what holds this database against the mark of some home."""
        return RestoreGuard(marks, lambda: LogKeys(MAC_KEY, self.key.public))

    async def seal(self) -> None:
        """Seal and sign what was written, and let the custodian see it."""
        await Sealer(self.store, self.key, "test").pass_once(insist=True)
        await self.custodian.epoch.confirm()

    async def export(self) -> list[str]:
        """Return the log as `audit export` writes it."""
        lines = []
        async with self.store.read() as reader:
            async for piece in walk(reader):
                lines += [_line(entry, piece.seal) for entry in piece.entries]
        return lines

    async def revoke(self) -> None:
        """Revoke the policy."""
        async with self.store.begin(CAUSE) as unit:
            await revocations.change(unit, "p", PolicyState.REVOKED, self.audit)

    async def lose_revocation(self) -> list[str]:
        """Revoke the policy, and bring the database back to before that; return the log as exported meanwhile."""
        before = len(await self.custody.audit())
        await self.revoke()
        await self.seal()
        lines = await self.export()
        await go_back(self.store, 1, before)
        return lines

    def restoring(self) -> Restoring:
        """Return what checks this installation after a restore."""
        return Restoring(self.store, self.audit, MAC_KEY, self.key.public, self.marks)


def _line(entry: Any, seal: Any) -> str:
    said = {name: getattr(entry, name) for name in ("writer", "sequence", "kind", "tenant_id", "policy_id", "detail")}
    place = seal and {"number": seal.number, "at": moment(seal.at), "head": seal.head.hex()}
    return json.dumps({**said, "mac": entry.mac.hex(), "at": moment(entry.at), "seal": place})


async def go_back(store: Store, seal: int, sequence: int) -> None:
    """Bring the database back to before the policy was revoked."""
    async with store.begin(CAUSE) as unit:
        await unit.execute(delete(rows))
        await unit.execute(update(policies).values(state="active"))
        await unit.execute(delete(audit_checkpoints).where(audit_checkpoints.c.seal > seal))
        await unit.execute(delete(audit_seals).where(audit_seals.c.number > seal))
        await unit.execute(delete(audit_entries).where(audit_entries.c.sequence > sequence))


async def test_replayed(custody: "Custody") -> None:
    """A running custodian drops its keys when its database goes back, and refuses until it was replayed."""
    ref = await custody.container(await custody.policy("p"))
    place = Installation(custody)
    await custody.open(ref, custodian=place.custodian)
    await place.seal()
    known = place.marks.read()
    assert known is not None
    lines = await place.lose_revocation()
    custody.clock.advance(60)
    with pytest.raises(Restored, match="lacks revocation 1"):
        await custody.open(ref, custodian=place.custodian)

    assert [] == list(place.custodian.cached())
    assert not place.custodian.epoch.holds

    found = await place.restoring().check(CAUSE, lines)

    assert (1, 1) == (found.entries, found.replayed)
    with pytest.raises(KeyRefused, match="revoked"):
        await custody.open(ref, custodian=place.custodian)


async def test_number_taken(custody: "Custody") -> None:
    """A lost revocation gets its number back; what has used it since the restore moves behind, its entry as well."""
    await custody.policy("p")
    await custody.policy("q")
    place = Installation(custody)
    await place.seal()
    lines = await place.lose_revocation()
    async with custody.store.begin(CAUSE) as unit:
        await revocations.change(unit, "q", PolicyState.REVOKED, place.audit)
    found = await place.restoring().check(CAUSE, lines)
    async with custody.store.read() as reader:
        numbers = {row.policy_id: row.number for row in await reader.rows(rows.select())}
    named = {row.policy_id: row.detail["number"] for row in await custody.audit() if row.kind == "policy-revoked"}

    assert ({"p": 1, "q": 2}, 1) == (numbers, found.replayed)
    assert numbers == named
    await place.custodian.epoch.confirm()


async def test_another_past(custody: "Custody") -> None:
    """A database that went on without the custodian, to a seal of the same number, is no less an older one."""
    await custody.policy("p")
    place = Installation(custody)
    await place.seal()
    await place.lose_revocation()
    async with custody.store.begin(CAUSE) as unit:
        await revocations.change(unit, "p", PolicyState.REVOKED, place.audit)
        await revocations.change(unit, "p", PolicyState.ACTIVE, place.audit)
    await Sealer(custody.store, place.key, "test").pass_once(insist=True)
    with pytest.raises(Restored, match="seal 2 of its audit log is not the one that was signed"):
        await place.custodian.epoch.confirm()


async def test_number_reused(custody: "Custody") -> None:
    """Law 8: a number that was confirmed and stands for something else now is a lost one, also before it is sealed."""
    await custody.policy("p")
    await custody.policy("q")
    place = Installation(custody)
    await place.seal()
    before = len(await custody.audit())
    await place.revoke()
    await place.custodian.epoch.confirm()
    await go_back(custody.store, 1, before)
    async with custody.store.begin(CAUSE) as unit:
        await revocations.change(unit, "q", PolicyState.REVOKED, place.audit)
    with pytest.raises(Restored, match="its revocation 1 is another one"):
        await place.custodian.epoch.confirm()


async def test_every_mark_moves_on(custody: "Custody") -> None:
    """The mark of a recovery handler's own machine, and that of an operator's, are as new as its last look."""
    await custody.policy("p")
    place = Installation(custody)
    own, operators = MemoryMarks(Mark()), MemoryMarks(Mark())
    vaults = VaultDirectory({"memory": custody.vault})
    second = LocalRecovering(
        custody.store, vaults, custody.provider, place.audit, custody.clock, guard=place.guard(own)
    )
    acts = Approvals(custody.store, place.audit, ApprovalSettings(), tells=False, guard=place.guard(operators))
    await place.seal()
    before = len(await custody.audit())
    await place.revoke()
    await place.seal()
    await second.refuse_restored()
    with pytest.raises(NotFound):
        await acts.cancel(CAUSE, "r")

    assert place.marks.read() == own.read() == operators.read()
    await go_back(custody.store, 1, before)
    with pytest.raises(Restored, match="lacks revocation 1"):
        await second.refuse_restored()
    with pytest.raises(Restored, match="lacks revocation 1"):
        await acts.cancel(CAUSE, "r")


async def test_first_mark(custody: "Custody", tmp_path: Path) -> None:
    """A home gets a mark where its database has no past, or one from before there were marks; another has lost it."""
    await custody.policy("p")
    marks = marks_of(tmp_path)
    marks.path.parent.mkdir()
    await Installation(custody).seal()
    await make_mark(tmp_path, custody.store, "0009")

    assert marks.read() is None
    await make_mark(tmp_path, custody.store, "0008")

    assert Mark() == marks.read()


async def test_destroyed_key_stays_destroyed(custody: "Custody") -> None:
    """A destroyed availability key is not back, and a recovery that can't be replayed is named."""
    await custody.policy("p")
    place = Installation(custody)
    await place.seal()
    before = len(await custody.audit())
    about = {"tenant_id": "acme", "policy_id": "p"}
    gone = AuditEntry("availability-key-destroyed", detail={"uri": custody.availability("p")}, **about)
    await place.audit.record(gone, AuditEntry("policy-key-recovered", detail={}, **about))
    await place.seal()
    lines = await place.export()
    await go_back(custody.store, 1, before)
    found = await place.restoring().check(CAUSE, lines)
    async with custody.store.read() as reader:
        (state,) = [row.state for row in await reader.rows(select(availability_keys.c.state))]

    assert ("destroyed", 1) == (state, found.replayed)
    assert ["policy-key-recovered"] == [each.kind for each in found.unreplayed]


async def replay_purge(custody: "Custody", *entries: AuditEntry) -> Checked:
    """Lose entries of the purge of a policy, and have them replayed."""
    place = Installation(custody)
    await place.seal()
    before = len(await custody.audit())
    await place.audit.record(*entries)
    await place.seal()
    lines = await place.export()
    await go_back(custody.store, 1, before)
    return await place.restoring().check(CAUSE, lines)


def told(kind: str, **detail: Any) -> AuditEntry:
    """Return an entry of the purge of policy p."""
    return AuditEntry(kind, "acme", "p", {"request": "r", **detail})


async def approve(custody: "Custody") -> None:
    """Store a purge of policy p that two have signed, as it is before it begins."""
    now = custody.clock.now()
    times = {"requested_at": now, "expires_at": now + timedelta(days=1)}
    row = {"id": "r", "tenant_id": "acme", "policy_id": "p", "action": "purge", "subject": "acme/p", "version": 1}
    purge = {"id": "r", "policy_id": "p", "stage": "cooling", "verdicts": {}, "keys": {}}
    async with custody.store.begin(CAUSE) as unit:
        await unit.execute(insert(approvals).values(**row, **times, state="approved", statement=b""))
        for name in ("ann", "bob"):
            signed = {"approval_id": "r", "fingerprint": name, "name": name, "signature": b"", "at": now}
            await unit.execute(insert(approval_signatures).values(signed))
        await unit.execute(insert(purges).values(**purge, containers=0, items=0, objects=0))


async def purged(custody: "Custody") -> tuple[str, int]:
    """Return the state of policy p, and how many wrapped copies there are."""
    async with custody.store.read() as reader:
        copies = await reader.rows(select(policy_key_copies).where(policy_key_copies.c.policy_id == "p"))
        return await reader.scalar(select(policies.c.state).where(policies.c.id == "p")), len(copies)


async def test_begun_purge_goes_on(custody: "Custody") -> None:
    """A purge that had begun loses its copies once more and has what its worker goes on with, its job included."""
    await custody.policy("p")
    await approve(custody)
    uri = custody.availability("p")
    begun = told("purge-begun", policy_keys=[], availability_keys=["memory://old", uri])
    found = await replay_purge(custody, told("approval-done"), begun)
    async with custody.store.read() as reader:
        (purge,) = await reader.rows(select(purges))
        (job,) = await reader.rows(select(jobs))

    assert (2, ()) == (found.replayed, found.unreplayed)
    assert ("purging", 0) == await purged(custody)
    assert {"memory://old", uri} == {each["uri"] for each in purge.keys["availability_keys"]}
    assert ("content", 1, "purge:r", {"request": "r"}) == (
        purge.stage,
        len(purge.keys["policy_keys"]),
        job.id,
        job.payload,
    )


async def test_begun_purge_without_its_request(custody: "Custody") -> None:
    """A purge whose request is lost can't go on: nobody is served, and whoever restores is told to purge again."""
    await custody.policy("p")
    found = await replay_purge(custody, told("purge-begun", policy_keys=[], availability_keys=[]))
    (left,) = found.unreplayed

    assert ("purge-begun", True) == (left.kind, "purge it again" in left.why)
    state, copies = await purged(custody)
    assert ("revoked", True) == (state, copies > 0)


async def test_certified_purge(custody: "Custody") -> None:
    """A purge that had ended is replayed even where its request is lost: no copy is left, and content goes in time."""
    await custody.policy("p")
    begun = told("purge-begun", policy_keys=[], availability_keys=[])
    found = await replay_purge(custody, begun, told("purge-certified", final=True))
    async with custody.store.read() as reader:
        keys = [row.state for row in await reader.rows(select(availability_keys.c.state))]
        (job,) = await reader.rows(select(jobs))

    assert ("sweep-purged:p", "p", 14) == (job.id, job.policy_id, (job.not_before - job.created_at).days)
    assert (1, ()) == (found.replayed, found.unreplayed)
    assert (("purged", 0), ["destroyed"]) == (await purged(custody), keys)


async def test_recovery_waits_for_the_check(custody: "Custody") -> None:
    """The second custodian neither recovers by an availability key nor destroys one in a restored database."""
    await custody.policy("p")
    place = Installation(custody)
    await place.seal()
    await place.revoke()
    await place.seal()
    await go_back(custody.store, 1, 1)
    vaults, guard = VaultDirectory({"memory": custody.vault}), place.guard(place.marks)
    second = LocalRecovering(custody.store, vaults, custody.provider, place.audit, custody.clock, guard=guard)
    order = RecoveryOrder("r", "p", (NewRoot("memory://x/a", "1", "f"), NewRoot("memory://y/b", "1", "f")))
    with pytest.raises(Restored):
        await second.recover(order, custody.asker())
    with pytest.raises(Restored):
        await second.destroy_availability_key("p", custody.availability("p"), custody.asker())

    assert 1 == custody.availability_asked("p")  # when it was made
