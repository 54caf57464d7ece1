"""Bring the sites of a geo, or of a policy, onto another TIK, a bounded batch at a time.

Of every site its live site keys are rewrapped, and a new site key begins for new blobs; no blob is touched. Both
TIKs stay openable until the last site is over.
"""

from sqlalchemy import exists, func, or_, select

from events.handler import Asked
from schemas.facts import GeoCompleted, GeoProgressed
from schemas.identifiers import Workload
from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker, Custodian
from twinlock.store.tables.content import container_keys
from twinlock.store.tables.content import containers as sites
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import assignment_outcomes
from twinlock.store.unit import Reader, Store, Unit
from workers import jobs, outcomes, switching
from workers.dep_assigner import rolls
from workers.dep_assigner.policy_keys import destroy_unused
from workers.jobs import Job
from workers.progress import tells
from workers.settings import WorkerSettings
from workers.site_reencryptor import geos
from workers.site_reencryptor.orders import ROLL, answer_if_last, list_id
from workers.switching import Batch
from workers.trouble import pause

LEFT_BEHIND = "sites are left under an older TIK"


class Rollout:
    """Plan and apply the batches of jobs."""

    def __init__(self, store: Store, custodian: Custodian, settings: WorkerSettings) -> None:
        self._store = store
        self._custodian = custodian
        self._settings = settings

    async def plan(self, job: Job, asker: Asker) -> Batch:
        """Have the keys of the next batch rewrapped and made."""
        async with self._store.read() as reader:
            policy = await switching.target_of(reader, job)
            page = await self._next(reader, job, policy)
        behind = [site for site in page if not switching.is_under(site, policy)]
        # Nobody waits for a roll's list: it goes on when the keys answer again.
        prepared = await switching.prepare(self._custodian, behind, policy, asker, rejects=job.kind != ROLL)
        return Batch(
            policy,
            page[-1].id if page else job.cursor,
            len(page) < self._settings.rollout_batch,
            prepared.switches,
            [site.name for site in page if switching.is_under(site, policy)],
            prepared.rejected,
        )

    async def _next(self, reader: Reader, job: Job, policy: Policy) -> list[Container]:
        size = self._settings.rollout_batch
        if job.kind == ROLL:
            return await rolls.left_behind(reader, policy, job.cursor, size)
        return await containers.page_of_geo(reader, job.tenant_id, job.payload["geo"], job.cursor, size)

    async def apply(self, unit: Unit, job: Job, batch: Batch) -> None:
        """Switch the batch's sites; one that changed since it was read is left for the next pass."""
        await switching.check_policies(unit, batch.policy, batch.switches)
        switched = await generations.switch_all(unit, batch.switches)
        assigned = [*(site.name for site in switched), *batch.unchanged]
        if job.kind != ROLL:
            await outcomes.note(unit, list_id(Asked.of(job.payload)), assigned, batch.rejected)
        done = min(job.total, job.done + len(assigned) + len(batch.rejected))
        if not batch.ended:
            await self._go_on(unit, job, batch, done)
        elif await _left_behind(unit, job, batch.policy):
            await jobs.put_off(unit, job, LEFT_BEHIND, pause(job, unit.clock.now(), self._settings), restart=True)
        else:
            await _conclude(unit, job, batch.policy)

    async def _go_on(self, unit: Unit, job: Job, batch: Batch, done: int) -> None:
        worth = tells(job, done, unit.clock.now(), self._settings)
        await jobs.go_on(unit, job, cursor=batch.cursor, done=done, progressed=worth)
        if worth:
            unit.emit(
                GeoProgressed(
                    tenant=await _tenant(unit, job),
                    geo=_geo(job, batch.policy),
                    policy=batch.policy.id,
                    generation=batch.policy.newest_generation,
                    sites=max(job.total, done),
                    sites_done=done,
                )
            )


async def _left_behind(unit: Unit, job: Job, policy: Policy) -> bool:
    """Recount: a site may have changed under a batch, or have been stored by a writer with the older key."""
    if job.kind == ROLL:
        return bool(await rolls.left_behind(unit, policy, "", 1))
    key, noted = container_keys.c, assignment_outcomes.c
    elsewhere = or_(key.policy_id != policy.id, key.policy_key_generation != policy.newest_generation)
    rejected = exists(
        select(noted.container).where(
            noted.job_id == list_id(Asked.of(job.payload)),
            noted.container == sites.c.name,
            noted.outcome == "rejected",
        )
    )
    left = select(sites.c.id).where(
        sites.c.tenant_id == job.tenant_id,
        sites.c.geo == job.payload["geo"],
        exists(select(key.container_id).where(key.container_id == sites.c.id, elsewhere)),
        ~rejected,
    )
    return await unit.row(left.limit(1)) is not None


async def _conclude(unit: Unit, job: Job, policy: Policy) -> None:
    """Finish the job, destroy the TIKs that nothing is under any more, tell, and answer whoever asked."""
    await destroy_unused(unit, policy.id, policy.newest_generation)
    await jobs.finish(unit, job)
    rejected = 0
    if job.kind == ROLL:
        await geos.end_roll(unit, policy)
        await outcomes.answer_with(unit, outcomes.asked_of(job.payload), job.id, outcomes.Counts(job.total, 0), "sites")
    else:
        rejected = await _conclude_assignment(unit, job, policy)
    unit.emit(
        GeoCompleted(
            tenant=await _tenant(unit, job),
            geo=_geo(job, policy),
            policy=policy.id,
            generation=policy.newest_generation,
            sites=job.total,
            rejected=rejected,
        )
    )


async def _conclude_assignment(unit: Unit, job: Job, policy: Policy) -> int:
    counts = await _count(unit, job)
    if counts.rejected and not counts.assigned:
        await geos.go_back(unit, job.tenant_id, job.payload["geo"], job.payload["was"])
    else:
        await geos.arrive(unit, job.tenant_id, job.payload["geo"], policy)
    await answer_if_last(unit, job.tenant_id, job.payload)
    return counts.rejected


async def _count(unit: Unit, job: Job) -> outcomes.Counts:
    """Count the outcomes of the job's own geo, which is one of those that the request named."""
    noted = assignment_outcomes.c
    rows = await unit.rows(
        select(noted.outcome, func.count().label("many"))
        .join(sites, sites.c.name == noted.container)
        .where(
            noted.job_id == list_id(Asked.of(job.payload)),
            sites.c.tenant_id == job.tenant_id,
            sites.c.workload == Workload.SITE,
            sites.c.geo == job.payload["geo"],
        )
        .group_by(noted.outcome)
    )
    found = {row.outcome: row.many for row in rows}
    return outcomes.Counts(found.get("assigned", 0), found.get("rejected", 0))


async def _tenant(unit: Unit, job: Job) -> str:
    return str(await unit.scalar(select(tenants.c.name).where(tenants.c.id == job.tenant_id)))


def _geo(job: Job, policy: Policy) -> str | None:
    named: str | None = job.payload.get("geo", policy.geo)
    return named
