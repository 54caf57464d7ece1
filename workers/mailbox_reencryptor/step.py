"""One wake-up, one bounded step: items of the mailbox that has waited longest go to its newest key."""

from dataclasses import dataclass
from datetime import datetime

from events.handler import Received
from schemas.event import Event
from schemas.facts import AlertRaised, ReencryptionCompleted, ReencryptionProgressed, ReencryptionWoken
from schemas.identifiers import Audience, Severity
from schemas.names import MAILBOX_REENCRYPTOR
from twinlock.content import containers
from twinlock.content.containers import Container
from twinlock.content.reencrypt import Applied, Reencrypter, Step
from twinlock.crashpoints import CrashPoint, reach
from twinlock.custody.port import Asker, JobRef, service
from twinlock.store.unit import Store, Unit
from workers import jobs, wakeups
from workers.jobs import Job
from workers.mailbox_reencryptor.orders import PURPOSE
from workers.settings import WorkerSettings
from workers.trouble import TROUBLE, pause


@dataclass(frozen=True, slots=True)
class _Plan:
    """Hold one wake-up's work: no job when none was due, no step when its mailbox is gone or `trouble` stopped it."""

    wake: str
    slot: int
    current: bool
    job: Job | None = None
    step: Step | None = None
    trouble: str = ""


class ReencryptStep:
    """Handle a wake-up: claim the next mailbox and take one step with it."""

    consumer = MAILBOX_REENCRYPTOR
    handles: type[Event] = ReencryptionWoken

    def __init__(self, store: Store, reencrypter: Reencrypter, settings: WorkerSettings) -> None:
        self._store = store
        self._reencrypter = reencrypter
        self._settings = settings

    async def prepare(self, event: ReencryptionWoken, received: Received) -> _Plan:
        """Claim a job and prepare its step; trouble with keys is part of the plan, not a failure."""
        wake = received.envelope.id
        async with self._store.read() as reader:
            if not await wakeups.is_current(reader, self.consumer, event.slot, wake):
                return _Plan(wake, event.slot, current=False)
        job = await jobs.claim(self._store, self.consumer, wake, self._settings.lease_seconds, event.slot)
        reach(CrashPoint.AFTER_CLAIM)
        if job is None or job.container_id is None:
            return _Plan(wake, event.slot, current=True)
        asker = Asker(service(PURPOSE), job.cause(wake), job=JobRef(job.id))
        try:
            step = await self._reencrypter.plan(job.container_id, job.cursor, asker)
        except TROUBLE as trouble:
            return _Plan(wake, event.slot, current=True, job=job, trouble=str(trouble))
        return _Plan(wake, event.slot, current=True, job=job, step=step)

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Apply the step if the job is still ours, and pass the wake-up on."""
        if not plan.current:
            return
        if plan.job is not None and await _held(unit, plan.job):
            await self._settle(unit, plan.job, plan)
        await wakeups.pass_on(unit, self.consumer, plan.slot, plan.wake)

    async def _settle(self, unit: Unit, job: Job, plan: _Plan) -> None:
        if plan.trouble:
            await jobs.put_off(unit, job, plan.trouble, pause(job, unit.clock.now(), self._settings))
        elif plan.step is None:
            await jobs.finish(unit, job)
        else:
            await self._apply(unit, job, plan.step)

    async def _apply(self, unit: Unit, job: Job, step: Step) -> None:
        applied = await self._reencrypter.apply(unit, step)
        unit.cause = job.cause(unit.cause.causation or unit.cause.correlation)
        if applied.finished:
            await jobs.finish(unit, job)
            unit.emit(_completed(step.seen))
            return
        if applied.damaged and not job.trouble:
            unit.emit(_alert(step.seen, applied))
        if step.cursor is None:
            reason = "items that do not decrypt are left"
            await jobs.put_off(unit, job, reason, self._settings.trouble_most, restart=True)
            return
        done = job.done + applied.items
        tells = self._tells(unit.clock.now(), job, done)
        await jobs.go_on(unit, job, cursor=step.cursor, done=done, progressed=tells)
        if tells:
            unit.emit(_progressed(step.seen, applied))

    def _tells(self, now: datetime, job: Job, done: int) -> bool:
        """Tell progress at most once a second, and at most once a percent."""
        percent_moved = job.total == 0 or done * 100 // job.total > job.done * 100 // job.total
        since = job.progressed_at or job.created_at
        return percent_moved and (now - since).total_seconds() >= self._settings.progress_seconds


async def _held(unit: Unit, job: Job) -> bool:
    # The container before its job, as everybody locks them who gives a mailbox a new key: no two wait for each other.
    if job.container_id is not None:
        await containers.lock(unit, job.container_id)
    return await jobs.held(unit, job)


def _progressed(seen: Container, applied: Applied) -> ReencryptionProgressed:
    return ReencryptionProgressed(
        mailbox=seen.name,
        tenant=seen.tenant,
        policy=seen.policy_id,
        generation=seen.newest.number,
        items=seen.items,
        items_encrypted=min(seen.items, seen.newest.items + applied.items),
    )


def _alert(seen: Container, applied: Applied) -> AlertRaised:
    return AlertRaised(
        kind="corrupt-item",
        severity=Severity.CRITICAL,
        audience=Audience.ENGINEERING,
        tenant=seen.tenant,
        policy=seen.policy_id,
        detail=f"items of {seen.name} do not decrypt: {', '.join(applied.damaged[:10])}",
    )


def _completed(seen: Container) -> ReencryptionCompleted:
    return ReencryptionCompleted(
        mailbox=seen.name,
        tenant=seen.tenant,
        policy=seen.policy_id,
        generation=seen.newest.number,
        items=seen.items,
    )
