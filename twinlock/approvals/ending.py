"""End a request that is not carried out: cancelled or too late, and whatever it held up goes on."""

from schemas.identifiers import ApprovalState
from twinlock.approvals.rows import Approval, set_state
from twinlock.approvals.statement import Action
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.lifecycle import purging
from twinlock.store.unit import Unit


async def end(unit: Unit, approval: Approval, state: ApprovalState, audit: AuditLog) -> None:
    """Write down that a request of a locked tenant has ended; a policy that was to be purged is what it was before."""
    await set_state(unit, approval, state)
    if approval.action != Action.PURGE or approval.policy_id is None:
        return
    change = await purging.give_back(unit, approval.policy_id)
    if change is not None:
        detail = {
            "number": change.number,
            "state": change.policy.state.value,
            "request": approval.id,
            "ended": state.value,
            "sender": unit.sender,
        }
        await audit.append(unit, AuditEntry("purge-given-up", approval.tenant_id, approval.policy_id, detail))
