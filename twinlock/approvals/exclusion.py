"""Recovery and purge of one policy exclude each other: while one waits or is carried out, the other is refused."""

from datetime import datetime

from sqlalchemy import select

from schemas.identifiers import ApprovalState
from twinlock.approvals.errors import Refused
from twinlock.approvals.requests import Wanted, is_same
from twinlock.approvals.rows import Approval, find_approval
from twinlock.approvals.statement import Action
from twinlock.custody.policies import Policy
from twinlock.store.tables.approvals import approvals
from twinlock.store.unit import Reader, Unit

EXCLUSIVE = (Action.RECOVER.value, "purge")


async def underway(reader: Reader, policy_id: str, now: datetime) -> list[Approval]:
    """Return the requests to recover or to purge a policy that wait for signatures, or for being carried out."""
    row = approvals.c
    undecided = (ApprovalState.OPEN.value, ApprovalState.APPROVED.value)
    query = select(row.id).where(row.policy_id == policy_id, row.action.in_(EXCLUSIVE), row.state.in_(undecided))
    found = [await find_approval(reader, each.id) for each in await reader.rows(query.order_by(row.requested_at))]
    return [each for each in found if each.state_at(now) in (ApprovalState.OPEN, ApprovalState.APPROVED)]


async def refuse_underway(unit: Unit, policy: Policy, wanted: Wanted) -> None:
    """Raise `Refused` where a policy has such a request; the very same one, which is still open, is no obstacle.

    Whoever calls has locked the tenant, so that no other is made before this one is there.
    """
    for known in await underway(unit, policy.id, unit.clock.now()):
        if known.state is ApprovalState.OPEN and is_same(known, wanted):
            continue
        raise Refused(
            f"policy {policy} has a request to {known.action} already: {known.id} is {known.state.value}",
            hint=f"end it first: twinlock approval cancel {known.id}",
        )
