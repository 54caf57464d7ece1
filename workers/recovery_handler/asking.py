"""Ask two approvers for what this worker carries out, and tell of each step: the same for whatever it is."""

from collections.abc import Sequence

from schemas.identifiers import ApprovalState
from twinlock.approvals import telling
from twinlock.approvals.approvers import Tenant, lock_tenant
from twinlock.approvals.exclusion import refuse_underway
from twinlock.approvals.requests import Wanted, request
from twinlock.approvals.rows import Approval, find_approval, set_state
from twinlock.approvals.settings import ApprovalSettings
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar
from twinlock.custody.policies import Policy
from twinlock.store.unit import Unit


async def ask(unit: Unit, policy: Policy, wanted: Wanted, settings: ApprovalSettings, audit: AuditLog) -> Approval:
    """Make a request about a policy, or find the same one; raise `Refused`, before anything is written."""
    await lock_tenant(unit, policy.tenant_id)
    await refuse_underway(unit, policy, wanted)
    approval = await request(unit, Tenant(policy.tenant_id, policy.tenant), wanted, settings)
    await telling.tell(unit)
    detail: dict[str, Scalar] = {"request": approval.id, "action": approval.action, "subject": approval.subject}
    await audit.append(unit, AuditEntry("approval-requested", policy.tenant_id, policy.id, detail))
    return approval


async def note_refused(unit: Unit, audit: AuditLog, action: str, policy: Policy | None, why: str) -> None:
    """Audit that a request was refused: each refusal has an entry."""
    tenant_id, policy_id = (None, None) if policy is None else (policy.tenant_id, policy.id)
    detail: dict[str, Scalar] = {"act": action, "why": why[:1000]}
    await audit.append(unit, AuditEntry("approval-refused", tenant_id, policy_id, detail))


async def settle(
    unit: Unit, approval: Approval, state: ApprovalState, audit: AuditLog, **detail: Scalar | Sequence[Scalar]
) -> None:
    """Write down how an approved request ended, tell it, and audit it last, for its lock comes after all others."""
    await set_state(unit, await find_approval(unit, approval.id), state)
    await telling.tell(unit)
    kind = "approval-done" if state is ApprovalState.DONE else "approval-refused"
    said = {"request": approval.id, "action": approval.action, "state": state.value, **detail}
    await audit.append(unit, AuditEntry(kind, approval.tenant_id, approval.policy_id, said))
