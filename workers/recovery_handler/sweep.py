"""Destroy the content of a policy that is purged already: a restored backup may bring it back, unreadable for good."""

from dataclasses import dataclass

from schemas.identifiers import PolicyState
from twinlock.approvals.rows import Approval
from twinlock.content.purging import ContentPurger, Step
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import Asker, Recovering
from twinlock.custody.rows import read_policy
from twinlock.store.unit import Store, Unit
from workers import jobs
from workers.jobs import Job


@dataclass(frozen=True, slots=True)
class SweepPurged:
    """Take the content of a purged policy away, one bounded step at a time."""

    store: Store
    recovering: Recovering
    content: ContentPurger

    async def taken_up(self, unit: Unit, approval: Approval) -> None:
        """Do nothing: no approval is carried out by it."""

    async def plan(self, job: Job, asker: Asker) -> Step | None:
        """Delete objects of the next container; the job is over where there is none."""
        await self.recovering.refuse_restored()
        policy_id = job.policy_id or ""
        async with self.store.read() as reader:
            policy = await read_policy(reader, policy_id)
        if policy.state is not PolicyState.PURGED:
            raise KeyRefused(f"policy {policy} is not purged", policy=policy_id)  # a row that somebody moved
        return await self.content.plan(policy_id)

    async def apply(self, unit: Unit, job: Job, work: Step) -> None:
        """Write down what was deleted, and go on."""
        await self.content.apply(unit, None, work)
        await jobs.go_on(unit, job, cursor=job.cursor, done=job.done + 1, progressed=True)
