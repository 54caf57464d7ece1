"""End an assignment or a roll of mailboxes: count, tell, answer, and destroy what nothing is wrapped by any more."""

from sqlalchemy import select

from schemas.facts import AssignmentExpanded
from twinlock.custody.policies import Policy
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Unit
from workers import jobs, outcomes
from workers.dep_assigner.policy_keys import destroy_unused
from workers.jobs import Job


async def conclude(unit: Unit, job: Job, policy: Policy) -> None:
    """Finish the job and answer its request with the counts."""
    counts = await outcomes.count(unit, job.id)
    await destroy_unused(unit, policy.id, policy.newest_generation)
    await jobs.finish(unit, job)
    tenant = await unit.scalar(select(tenants.c.name).where(tenants.c.id == job.tenant_id))
    said = {"assigned": counts.assigned, "rejected": counts.rejected}
    unit.emit(AssignmentExpanded(job=job.id, policy=policy.id, tenant=tenant, **said))
    await outcomes.answer_with(unit, outcomes.asked_of(job.payload), job.id, counts, "mailboxes")
