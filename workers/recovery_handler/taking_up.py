"""Take up what two approvers have signed: one job for each request, woken by the fact or found by looking."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import exists, select

from events.handler import Received
from schemas.event import Event
from schemas.facts import ApprovalSettled
from schemas.identifiers import ApprovalState
from schemas.names import RECOVERY_HANDLER
from twinlock.approvals.requests import locked
from twinlock.approvals.rows import Approval
from twinlock.store.tables.approvals import approval_steps, approvals
from twinlock.store.tables.work import jobs as table
from twinlock.store.unit import Cause, Store, Unit, new_id
from workers import jobs, wakeups
from workers.jobs import NewJob
from workers.recovery_handler.carrying import AnyCarrying, job_id

_APPROVED = ApprovalState.APPROVED.value


@dataclass(frozen=True, slots=True)
class _Plan:
    request: str | None


class TakeUp:
    """Hear that a request is approved, and make its job; of what else it hears nothing follows."""

    consumer = RECOVERY_HANDLER
    handles: type[Event] = ApprovalSettled

    def __init__(self, carrying: Mapping[str, AnyCarrying]) -> None:
        self._carrying = carrying

    async def prepare(self, event: ApprovalSettled, received: Received) -> _Plan:
        """Look whether it concerns this worker."""
        wanted = event.state is ApprovalState.APPROVED and event.action in self._carrying
        return _Plan(event.approval if wanted else None)

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Make the job, unless the request is over by now; a repeat finds it."""
        if plan.request is not None:
            await _take_up(unit, plan.request, self._carrying)


async def look(store: Store, carrying: Mapping[str, AnyCarrying], grace: float) -> None:
    """Make the job of every approved request that has none: whatever became of the fact, the row is the truth.

    The fact gets `grace` seconds: what it sets off is awaited by whoever has signed.
    """
    row, step = approvals.c, approval_steps.c
    late = store.clock.now() - timedelta(seconds=grace)
    long_ago = exists(select(step.number).where(step.approval_id == row.id, step.step == _APPROVED, step.at <= late))
    query = select(row.id, row.action).where(row.state == _APPROVED, row.action.in_(list(carrying)), long_ago)
    async with store.read() as reader:
        waiting = {job_id(found.action, found.id): found.id for found in await reader.rows(query)}
        known = await reader.rows(select(table.c.id).where(table.c.id.in_(list(waiting))))
    for name in waiting.keys() - {found.id for found in known}:
        async with store.begin(Cause(new_id())) as unit:
            await _take_up(unit, waiting[name], carrying)


async def _take_up(unit: Unit, request: str, carrying: Mapping[str, AnyCarrying]) -> None:
    approval = await locked(unit, request)
    name = job_id(approval.action, approval.id)
    known = await unit.scalar(select(table.c.id).where(table.c.id == name))
    if approval.state is not ApprovalState.APPROVED or known is not None:
        return
    await jobs.put(unit, _job(name, approval))
    await carrying[approval.action].taken_up(unit, approval)
    await wakeups.wake(unit, RECOVERY_HANDLER)


def _job(name: str, approval: Approval) -> NewJob:
    return NewJob(
        id=name,
        worker=RECOVERY_HANDLER,
        kind=approval.action,
        tenant_id=approval.tenant_id,
        policy_id=approval.policy_id,
        payload={"request": approval.id},
    )
