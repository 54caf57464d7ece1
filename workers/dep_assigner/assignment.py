"""Handle a requested assignment: it becomes one job, whatever its size, and its answer comes when the job is done."""

from dataclasses import dataclass

from sqlalchemy import select

from events.answers import answer
from events.handler import Received
from schemas.event import Event
from schemas.identifiers import PolicyState, RequestOutcome
from schemas.names import DEP_ASSIGNER
from schemas.requests import AssignmentRequested
from twinlock.custody.naming import made_by
from twinlock.custody.policies import Policy, find_policy
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader, Store, Unit
from workers import jobs, wakeups
from workers.dep_assigner.expansion import ASSIGN
from workers.jobs import NewJob


@dataclass(frozen=True, slots=True)
class _Plan:
    received: Received
    job: NewJob | None = None
    refused: TwinlockError | None = None


class Assign:
    """Take an assignment on as a job, or refuse it as a whole."""

    consumer = DEP_ASSIGNER
    handles: type[Event] = AssignmentRequested

    def __init__(self, store: Store) -> None:
        self._store = store

    async def prepare(self, event: AssignmentRequested, received: Received) -> _Plan:
        """Find the policy and the tenant that are meant."""
        try:
            async with self._store.read() as reader:
                policy = await find_policy(reader, event.policy)
                tenant_id = await _tenant_of(reader, event, policy)
        except TwinlockError as refused:
            return _Plan(received, refused=refused)
        return _Plan(received, _job(event, received, policy, tenant_id))

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Store the job and wake whoever expands it."""
        if plan.job is None:
            refused = plan.refused or TwinlockError("the assignment can't be carried out")
            await answer(unit, plan.received.asked, RequestOutcome.REFUSED, {"hint": refused.hint}, refused.detail)
            return
        await jobs.put(unit, plan.job)
        await wakeups.wake(unit, DEP_ASSIGNER)


async def _tenant_of(reader: Reader, event: AssignmentRequested, policy: Policy) -> str:
    if policy.state is not PolicyState.ACTIVE:
        raise TwinlockError(f"policy {policy} is {policy.state}", hint="it can't be assigned")
    if not policy.is_service:
        return policy.tenant_id
    if event.tenant is None and event.all_mailboxes:
        raise TwinlockError("whose mailboxes are to be reverted is not said", hint="name the tenant: --tenant TENANT")
    if event.tenant is None:
        return policy.tenant_id
    found = await reader.scalar(select(tenants.c.id).where(tenants.c.name == event.tenant))
    if not isinstance(found, str):
        raise NotFound(f"there is no tenant {event.tenant}", hint="see: twinlock tenant list")
    return found


def _job(event: AssignmentRequested, received: Received, policy: Policy, tenant_id: str) -> NewJob:
    payload = received.asked.payload()
    if not event.all_mailboxes:
        payload["mailboxes"] = sorted(set(event.mailboxes))
    return NewJob(
        id=f"{ASSIGN}:{made_by(received.asked.source, received.asked.id)}",
        worker=DEP_ASSIGNER,
        kind=ASSIGN,
        tenant_id=tenant_id,
        policy_id=policy.id,
        payload=payload,
        total=len(payload.get("mailboxes", ())),
    )
