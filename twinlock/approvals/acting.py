"""What people do with approvals: each act is one transaction with its audit entry, and every refusal has one too."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy import select

from schemas.identifiers import ApprovalState, PolicyState
from twinlock.approvals.approvers import Tenant, find_tenant, lock_tenant, read_approvers
from twinlock.approvals.carrying import carry_out, change_approvers
from twinlock.approvals.chain import Approver, Approvers, Change, Link
from twinlock.approvals.errors import Refused
from twinlock.approvals.requests import Wanted, cancel, request, sign
from twinlock.approvals.rows import Approval, find_approval, list_approvals
from twinlock.approvals.settings import ApprovalSettings
from twinlock.approvals.statement import Action, NamedApprover
from twinlock.approvals.telling import expire, tell
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar
from twinlock.custody.policies import Policy
from twinlock.custody.revocation import revocations
from twinlock.custody.revocation.mark import RestoreGuard
from twinlock.custody.revocation.revocations import Change as Revocation
from twinlock.errors import NotFound
from twinlock.keys.signing import fingerprint
from twinlock.store.tables.custody import policies
from twinlock.store.unit import Cause, Reader, Store, Unit

_AWAY = (PolicyState.REVOKED.value, PolicyState.PURGING.value)


@dataclass(slots=True)
class Act:
    """Describe what somebody tries, for the audit entry of a refusal."""

    what: str
    tenant_id: str | None = None
    policy_id: str | None = None
    detail: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Approvals:
    """Act for whoever types commands; with `tells`, facts are told at once, and otherwise by a worker of the fleet."""

    store: Store
    audit: AuditLog
    settings: ApprovalSettings
    tells: bool
    guard: RestoreGuard | None = None  # a restored database may have forgotten that an approval was used

    async def add_approver(
        self, cause: Cause, tenant: str, name: str, public_key: bytes, reason: str = ""
    ) -> Approver | Approval:
        """Add one of the first two approvers, or ask two for a later one; raise `Refused`, or `NotFound`."""
        act = Act("add-approver", detail={"name": name, "public_key": public_key.hex()})
        async with self._acting(cause, act) as unit:
            found, approvers = await _locked(unit, tenant, act)
            _refuse_member(approvers, name, public_key)
            if not approvers.are_first:
                named = _named(approvers, name, public_key, round(self.settings.newcomer_seconds))
                wanted = Wanted(Action.ADD_APPROVER, name, reason, approver=named, public_key=public_key)
                return await self._request(unit, found, wanted)
            await _refuse_meanwhile(unit, found)
            link = _first(unit, approvers, Change.ADD, name, public_key)
            after = await change_approvers(unit, approvers, link, self.audit)
            added = after.named(name)
            assert added is not None  # noqa: S101  # it was added just now
            return added

    async def remove_approver(self, cause: Cause, tenant: str, name: str, reason: str = "") -> Approver | Approval:
        """Remove an approver before there are two, or ask two for it; raise `Refused`, or `NotFound`."""
        act = Act("remove-approver", detail={"name": name})
        async with self._acting(cause, act) as unit:
            found, approvers = await _locked(unit, tenant, act)
            member = approvers.named(name)
            if member is None:
                raise NotFound(f"tenant {tenant} has no approver {name}", hint=f"see: twinlock approver list {tenant}")
            key = member.public_key
            if not approvers.are_first:
                named = _named(approvers, name, key)
                wanted = Wanted(Action.REMOVE_APPROVER, name, reason, approver=named, public_key=key)
                return await self._request(unit, found, wanted)
            await _refuse_meanwhile(unit, found)
            await change_approvers(unit, approvers, _first(unit, approvers, Change.REMOVE, name, key), self.audit)
            return member

    async def restore(self, cause: Cause, policy: Policy, reason: str = "") -> Revocation | Approval:
        """Lift a revocation by the operator's word, or ask for it where the tenant has two approvers."""
        act = Act("restore-policy", policy.tenant_id, policy.id)
        async with self._acting(cause, act) as unit:
            await lock_tenant(unit, policy.tenant_id)
            approvers = await read_approvers(unit, policy.tenant_id)
            # Locked, or a revocation that commits a moment later would be lifted by the operator alone.
            policy = await revocations.lock(unit, policy.id)
            # By the chain and not by the time: a clock that is wrong, now or when they were added, spares no signature.
            if policy.state is PolicyState.REVOKED and not approvers.are_first:
                wanted = Wanted(Action.RESTORE_POLICY, str(policy), reason, policy)
                return await self._request(unit, Tenant(policy.tenant_id, policy.tenant), wanted)
            return await revocations.change(unit, policy.id, PolicyState.ACTIVE, self.audit)

    async def approve(self, cause: Cause, request_id: str, by: str, signature: bytes) -> Approval:
        """Add a signature; with the last one it is carried out in the same transaction, where no worker has to."""
        act = Act("sign", detail={"request": request_id[:64], "by": by[:63]})
        async with self._acting(cause, act) as unit:
            await _place(unit, act, request_id)
            signed = await sign(unit, request_id, by, signature)
            stands = signed
            if signed.state is ApprovalState.APPROVED:
                stands = await carry_out(unit, signed, self.audit)
            # Last, for the audit log's lock comes after that of the revocations, as with whoever revokes.
            detail = {**act.detail, "action": signed.action, "approvals": len(signed.signed)}
            await self.audit.append(unit, AuditEntry("approval-signed", signed.tenant_id, signed.policy_id, detail))
            return stands

    async def cancel(self, cause: Cause, request_id: str) -> Approval:
        """End a request that was not carried out yet; raise `Refused`, or `NotFound`."""
        act = Act("cancel", detail={"request": request_id[:64]})
        async with self._acting(cause, act) as unit:
            await _place(unit, act, request_id)
            cancelled = await cancel(unit, request_id, self.audit)
            detail = {**act.detail, "action": cancelled.action, "sender": unit.sender}
            entry = AuditEntry("approval-cancelled", cancelled.tenant_id, cancelled.policy_id, detail)
            await self.audit.append(unit, entry)
            return cancelled

    async def _request(self, unit: Unit, tenant: Tenant, wanted: Wanted) -> Approval:
        approval = await request(unit, tenant, wanted, self.settings)
        detail = {"request": approval.id, "action": approval.action, "subject": approval.subject, "sender": unit.sender}
        await self.audit.append(unit, AuditEntry("approval-requested", tenant.id, approval.policy_id, detail))
        return approval

    @asynccontextmanager
    async def _acting(self, cause: Cause, act: Act) -> AsyncIterator[Unit]:
        try:
            async with self.store.begin(cause) as unit:
                if self.guard is not None:
                    await self.guard.check(unit)
                yield unit
                if self.tells:
                    await self._tell(unit, act.tenant_id)
        except Refused as refused:
            # What was refused is rolled back, so that its entry needs a transaction of its own.
            detail = {**act.detail, "act": act.what, "why": refused.detail, "sender": self.store.sender}
            await self.audit.record(AuditEntry("approval-refused", act.tenant_id, act.policy_id, detail))
            raise

    async def _tell(self, unit: Unit, tenant_id: str | None) -> None:
        await expire(unit, self.audit, tenant_id)
        await tell(unit)
        for number in await revocations.unannounced(unit):
            await revocations.announce(unit, number)


def _named(approvers: Approvers, name: str, public_key: bytes, wait_seconds: int = 0) -> NamedApprover:
    return NamedApprover(name, fingerprint(public_key).hex(), wait_seconds, approvers.head.hex())


def _first(unit: Unit, approvers: Approvers, change: Change, name: str, public_key: bytes) -> Link:
    now = unit.clock.now()
    return Link(approvers.number + 1, change, name, public_key, now, now)


async def _locked(unit: Unit, tenant: str, act: Act) -> tuple[Tenant, Approvers]:
    found = await find_tenant(unit, tenant)
    act.tenant_id = found.id
    await lock_tenant(unit, found.id)
    return found, await read_approvers(unit, found.id)


async def _place(unit: Unit, act: Act, request_id: str) -> None:
    found = await find_approval(unit, request_id)
    act.tenant_id, act.policy_id = found.tenant_id, found.policy_id


def _refuse_member(approvers: Approvers, name: str, public_key: bytes) -> None:
    if approvers.named(name) is not None:
        raise Refused(f"there is an approver {name} already", hint="choose another name, or remove the approver first")
    if fingerprint(public_key).hex() in approvers.seen:
        raise Refused(
            f"the key of {name} is, or was, an approver's: each counts once, for good",
            hint="make a new pair: openssl genpkey -algorithm ed25519 -out FILE",
        )


async def _refuse_meanwhile(reader: Reader, tenant: Tenant) -> None:
    """Refuse to change who approves while there is something to approve: an operator could name approvers for it."""
    away = select(policies.c.name).where(policies.c.tenant_id == tenant.id, policies.c.state.in_(_AWAY))
    name = await reader.scalar(away.order_by(policies.c.name))
    if name is not None:
        raise Refused(
            f"policy {tenant.name}/{name} is revoked or being purged: the first approvers can't change meanwhile",
            hint=f"lift the revocation first: twinlock policy restore {tenant.name}/{name}",
        )
    if any([await list_approvals(reader, tenant.id, state) for state in (ApprovalState.OPEN, ApprovalState.APPROVED)]):
        raise Refused(
            f"tenant {tenant.name} has an open request: the first approvers can't change meanwhile",
            hint=f"see: twinlock approval list --tenant {tenant.name} --open",
        )
