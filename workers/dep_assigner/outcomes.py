"""End an assignment or a roll: count, tell, answer, and destroy what nothing is wrapped by any more."""

from sqlalchemy import func, select

from events.answers import answer
from events.handler import Asked
from schemas.facts import AssignmentExpanded
from schemas.identifiers import RequestOutcome
from twinlock.custody.policies import Policy
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import assignment_outcomes
from twinlock.store.unit import Unit
from workers import jobs
from workers.dep_assigner.policy_keys import destroy_unused
from workers.jobs import Job


async def conclude(unit: Unit, job: Job, policy: Policy) -> None:
    """Finish the job and answer its request with the counts; the lists are rows."""
    outcome = assignment_outcomes.c.outcome
    rows = await unit.rows(
        select(outcome, func.count().label("many")).where(assignment_outcomes.c.job_id == job.id).group_by(outcome)
    )
    counts = {row.outcome: row.many for row in rows}
    assigned, rejected = counts.get("assigned", 0), counts.get("rejected", 0)
    await destroy_unused(unit, policy.id, policy.newest_generation)
    await jobs.finish(unit, job)
    tenant = await unit.scalar(select(tenants.c.name).where(tenants.c.id == job.tenant_id))
    unit.emit(AssignmentExpanded(job=job.id, policy=policy.id, tenant=tenant, assigned=assigned, rejected=rejected))
    said = {"job": job.id, "assigned": assigned, "rejected": rejected}
    await answer(unit, Asked.of(job.payload), _outcome(assigned, rejected), said, _sentence(assigned, rejected))


def _outcome(assigned: int, rejected: int) -> RequestOutcome:
    return RequestOutcome.REFUSED if rejected and not assigned else RequestOutcome.DONE


def _sentence(assigned: int, rejected: int) -> str:
    return f"{assigned} mailboxes assigned, {rejected} rejected"
