"""One wake-up, one bounded step of the job that has waited longest: the frame of every worker with jobs (law 12)."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from events.context import about
from events.handler import Received
from twinlock.content import containers
from twinlock.crashpoints import CrashPoint, reach
from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import Asker, JobRef, service
from twinlock.store.unit import StaleRead, Store, Unit
from workers import jobs, wakeups
from workers.jobs import Job
from workers.observing import Observer, Unobserved
from workers.settings import WorkerSettings
from workers.trouble import TROUBLE, pause

WorkT = TypeVar("WorkT")


@dataclass(frozen=True, slots=True)
class Plan(Generic[WorkT]):
    """Hold one wake-up's work: no job when none was due, no work when what it is about is gone, or `trouble` came."""

    wake: str
    slot: int
    current: bool
    job: Job | None = None
    work: WorkT | None = None
    trouble: str = ""


class Step(Generic[WorkT]):
    """Claim a job, prepare a step of it, and commit it if the job is still ours; who derives says what a step is."""

    consumer: str

    def __init__(self, store: Store, settings: WorkerSettings, observer: Observer | None = None) -> None:
        self.observer = observer or Unobserved()
        self._store = store
        self._settings = settings

    async def prepare(self, event: Any, received: Received) -> Plan[WorkT]:
        """Claim a job and prepare its step; trouble with keys is part of the plan, not a failure."""
        wake = received.envelope.id
        async with self._store.read() as reader:
            if not await wakeups.is_current(reader, self.consumer, event.slot, wake):
                return Plan(wake, event.slot, current=False)
        job = await jobs.claim(self._store, self.consumer, wake, self._settings.lease_seconds, event.slot)
        reach(CrashPoint.AFTER_CLAIM)
        if job is None:
            return Plan(wake, event.slot, current=True)
        about(tenant=job.tenant_id, policy=job.policy_id, job=job.id)
        try:
            with self.observer.stepping(self.consumer, job.cause(wake)):
                work = await self._plan(job, Asker(service(job.kind), job.cause(wake), job=JobRef(job.id)))
        except GenerationGone:
            raise StaleRead from None  # a re-encryption ended, or a container went, since it was read
        except TROUBLE as trouble:
            return Plan(wake, event.slot, current=True, job=job, trouble=str(trouble))
        return Plan(wake, event.slot, current=True, job=job, work=work)

    async def commit(self, unit: Unit, plan: Plan[WorkT]) -> None:
        """Apply the step if the job is still ours, and pass the wake-up on."""
        if not plan.current:
            return
        if plan.job is not None and await _held(unit, plan.job):
            await self._settle(unit, plan.job, plan)
        await wakeups.pass_on(unit, self.consumer, plan.slot, plan.wake)

    async def _settle(self, unit: Unit, job: Job, plan: Plan[WorkT]) -> None:
        if plan.trouble:
            await jobs.put_off(unit, job, plan.trouble, pause(job, unit.clock.now(), self._settings))
        elif plan.work is None:
            await jobs.finish(unit, job)
        else:
            unit.cause = job.cause(unit.cause.causation or unit.cause.correlation)
            await self._apply(unit, job, plan.work)

    async def _plan(self, job: Job, asker: Asker) -> WorkT | None:
        """Do the slow part, or return None where what the job is about is gone."""
        raise NotImplementedError

    async def _apply(self, unit: Unit, job: Job, work: WorkT) -> None:
        """Do the short part, and go on with the job, put it off or finish it."""
        raise NotImplementedError


async def _held(unit: Unit, job: Job) -> bool:
    # The container before its job, as everybody locks them who gives a container a new key: no two wait for each other.
    if job.container_id is not None:
        await containers.lock(unit, job.container_id)
    return await jobs.held(unit, job)
