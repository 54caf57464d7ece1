"""Ask for a purge: only while both root keys are definitely denied, and from then on the policy serves nobody."""

from dataclasses import dataclass

from schemas.identifiers import ApprovalState, PolicyState
from twinlock.approvals.approvers import Tenant, lock_tenant
from twinlock.approvals.errors import Refused
from twinlock.approvals.exclusion import refuse_underway
from twinlock.approvals.requests import Wanted, request
from twinlock.approvals.rows import Approval, list_approvals
from twinlock.approvals.settings import ApprovalSettings
from twinlock.approvals.statement import Action, NamedPurge
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar
from twinlock.custody.lifecycle import purging
from twinlock.custody.policies import Policy
from twinlock.custody.rows import read_policy
from twinlock.keys.signing import fingerprint
from twinlock.purging.rows import Look, add_purge
from twinlock.store.unit import StaleRead, Unit


@dataclass(frozen=True, slots=True)
class PurgeWanted:
    """Say what somebody wants purged, by which id, why, who answers for it, and what the root keys came to just now."""

    id: str
    policy: Policy
    reason: str
    contact: str
    look: Look | None  # not where the policy's state alone decides


@dataclass(frozen=True, slots=True)
class Requesting:
    """Take requests for purges whose certificates are signed with one key, of which this is the public half."""

    audit: AuditLog
    settings: ApprovalSettings
    certificate_key: bytes

    async def request(self, unit: Unit, wanted: PurgeWanted) -> Approval:
        """Have two approvers asked, and keep the policy from serving; the same request is not made twice.

        Raise a `TwinlockError` where it can't be purged, `Refused` where that may not be asked for, and `StaleRead`
        where the policy is not as it was when its root keys were asked.
        """
        policy = wanted.policy
        await lock_tenant(unit, policy.tenant_id)
        current = await read_policy(unit, policy.id)
        if current.state is PolicyState.PURGING and (known := await _known(unit, current)) is not None:
            return known
        purging.refuse(current)
        look = wanted.look
        if look is None or current.newest_generation != policy.newest_generation:
            raise StaleRead
        if not look.denied:
            raise not_denied(current, look)
        tenant = Tenant(policy.tenant_id, policy.tenant)
        asked = self._wanted(current, wanted)
        await refuse_underway(unit, current, asked)
        approval = await request(unit, tenant, asked, self.settings)
        await add_purge(unit, approval.id, policy.id, look)
        change = await purging.set_out(unit, policy.id)
        await self.audit.append(unit, _requested(unit, approval, wanted, change.number))
        return approval

    def _wanted(self, policy: Policy, wanted: PurgeWanted) -> Wanted:
        named = NamedPurge(
            wanted.contact, round(self.settings.cooling_off_seconds), fingerprint(self.certificate_key).hex()
        )
        return Wanted(Action.PURGE, str(policy), wanted.reason, policy, id=wanted.id, purge=named)


def not_denied(policy: Policy, look: Look) -> Refused:
    """Say that a purge needs both root keys definitely denied, and how they stand."""
    return Refused(
        f"policy {policy} can't be purged: {look}",
        hint="disable or delete both root keys in their vaults; only a definite denial by both of them counts",
    )


async def _known(unit: Unit, policy: Policy) -> Approval | None:
    for known in await list_approvals(unit, policy.tenant_id, ApprovalState.OPEN):
        of_this = known.action == Action.PURGE and known.policy_id == policy.id
        if of_this and known.state_at(unit.clock.now()) is ApprovalState.OPEN:
            return known
    return None


def _requested(unit: Unit, approval: Approval, wanted: PurgeWanted, number: int) -> AuditEntry:
    detail: dict[str, Scalar] = {
        "request": approval.id,
        "number": number,
        "action": approval.action,
        "subject": approval.subject,
        "sender": unit.sender,
        "contact": wanted.contact,
        "verdicts": str(wanted.look),
    }
    return AuditEntry("approval-requested", approval.tenant_id, approval.policy_id, detail)
