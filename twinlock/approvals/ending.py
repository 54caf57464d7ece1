"""End a request that is not carried out: cancelled or too late, and whatever it held up goes on."""

from schemas.identifiers import ApprovalState
from twinlock.approvals.rows import Approval, set_state
from twinlock.approvals.statement import Action
from twinlock.custody import purging
from twinlock.custody.audit import AuditLog
from twinlock.store.unit import Unit


async def end(unit: Unit, approval: Approval, state: ApprovalState, audit: AuditLog | None = None) -> None:
    """Write down that a request of a locked tenant has ended; a policy that was to be purged is what it was before."""
    await set_state(unit, approval, state)
    if approval.action == Action.PURGE and approval.policy_id is not None:
        await purging.give_back(unit, approval.policy_id, audit)
