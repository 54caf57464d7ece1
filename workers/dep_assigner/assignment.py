"""Handle a requested assignment: it becomes one job, or one a geo, and its answer comes when the work is done."""

from dataclasses import dataclass

from sqlalchemy import select, union

from events.answers import answer
from events.handler import Received
from schemas.event import Event
from schemas.identifiers import PolicyState, RequestOutcome, Workload
from schemas.names import DEP_ASSIGNER
from schemas.requests import AssignmentRequested
from twinlock.custody.lifecycle.naming import made_by
from twinlock.custody.policies import Policy, find_policy
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.tables.content import containers
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import geos
from twinlock.store.unit import Reader, Store, Unit
from workers import jobs, wakeups
from workers.dep_assigner.eligibility import why_not_geos
from workers.dep_assigner.expansion import ASSIGN
from workers.jobs import NewJob
from workers.site_reencryptor.orders import order_assignment

_PLURAL = {Workload.MAILBOX: "mailboxes", Workload.SITE: "sites"}


@dataclass(frozen=True, slots=True)
class _Plan:
    received: Received
    event: AssignmentRequested
    policy: Policy | None = None
    tenant_id: str = ""
    geos: tuple[str, ...] = ()
    refused: TwinlockError | None = None


class Assign:
    """Take an assignment on as work to be done, or refuse it as a whole."""

    consumer = DEP_ASSIGNER
    handles: type[Event] = AssignmentRequested

    def __init__(self, store: Store) -> None:
        self._store = store

    async def prepare(self, event: AssignmentRequested, received: Received) -> _Plan:
        """Find the policy, the tenant and the geos that are meant."""
        try:
            async with self._store.read() as reader:
                policy = await find_policy(reader, event.policy, event.workload)
                tenant_id = await _tenant_of(reader, event, policy)
                found = await _geos_of(reader, event, policy, tenant_id)
        except TwinlockError as refused:
            return _Plan(received, event, refused=refused)
        return _Plan(received, event, policy, tenant_id, found)

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Store the work and wake whoever does it."""
        if plan.policy is None:
            refused = plan.refused or TwinlockError("the assignment can't be carried out")
            await answer(unit, plan.received.asked, RequestOutcome.REFUSED, {"hint": refused.hint}, refused.detail)
        elif plan.event.workload is Workload.SITE:
            await order_assignment(unit, plan.policy, plan.tenant_id, plan.geos, plan.received.asked)
        else:
            await jobs.put(unit, _job(plan.event, plan.received, plan.policy, plan.tenant_id))
            await wakeups.wake(unit, DEP_ASSIGNER)


async def _tenant_of(reader: Reader, event: AssignmentRequested, policy: Policy) -> str:
    if policy.state is not PolicyState.ACTIVE:
        raise TwinlockError(f"policy {policy} is {policy.state}", hint="it can't be assigned")
    if policy.workload is not event.workload:
        raise TwinlockError(
            f"policy {policy} is for {_PLURAL[policy.workload]}, not for {_PLURAL[event.workload]}",
            hint=f"make one for them: twinlock policy create --workload {event.workload.value}",
        )
    if not policy.is_service:
        return policy.tenant_id
    if event.tenant is None and not event.mailboxes:
        whose = f"whose {_PLURAL[event.workload]} are to be reverted is not said"
        raise TwinlockError(whose, hint="name the tenant: --tenant TENANT")
    if event.tenant is None:
        return policy.tenant_id
    found = await reader.scalar(select(tenants.c.id).where(tenants.c.name == event.tenant))
    if not isinstance(found, str):
        raise NotFound(f"there is no tenant {event.tenant}", hint="see: twinlock tenant list")
    return found


async def _geos_of(reader: Reader, event: AssignmentRequested, policy: Policy, tenant_id: str) -> tuple[str, ...]:
    """Return the geos that are meant, or raise what is against one of them."""
    if event.workload is not Workload.SITE:
        return ()
    meant = tuple(dict.fromkeys(event.geos)) or await _all_geos(reader, policy, tenant_id)
    tenant = await reader.row(select(tenants.c.name, tenants.c.trial).where(tenants.c.id == tenant_id))
    trial = tenant is not None and tenant.trial
    if event.tenant is not None and not policy.is_service and event.tenant != policy.tenant:
        raise TwinlockError(f"policy {policy} belongs to tenant {policy.tenant}, not to {event.tenant}")
    against = why_not_geos(policy, meant, trial)
    if against is not None:
        raise TwinlockError(against, hint="a site policy is for the sites of its own geo and tenant")
    return meant


async def _all_geos(reader: Reader, policy: Policy, tenant_id: str) -> tuple[str, ...]:
    of_sites = select(containers.c.geo).where(containers.c.tenant_id == tenant_id, containers.c.geo.is_not(None))
    rows = await reader.rows(union(of_sites, select(geos.c.geo).where(geos.c.tenant_id == tenant_id)))
    found = tuple(sorted(row.geo for row in rows))
    if found or policy.geo is None:
        return found
    return (policy.geo,)  # no site yet: those to come begin under the policy


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
