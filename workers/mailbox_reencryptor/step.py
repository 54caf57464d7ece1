"""One wake-up, one bounded step: items of the mailbox that has waited longest go to its newest key."""

from schemas.event import Event
from schemas.facts import AlertRaised, ReencryptionCompleted, ReencryptionProgressed, ReencryptionWoken
from schemas.identifiers import Audience, Severity
from schemas.names import MAILBOX_REENCRYPTOR
from twinlock.content.containers import Container
from twinlock.content.reencrypt import Applied, Reencrypter
from twinlock.content.reencrypt import Step as Prepared
from twinlock.custody.port import Asker
from twinlock.store.unit import Store, Unit
from workers import jobs
from workers.jobs import Job
from workers.progress import tells
from workers.settings import WorkerSettings
from workers.steps import Step


class ReencryptStep(Step[Prepared]):
    """Handle a wake-up: claim the next mailbox and take one step with it."""

    consumer = MAILBOX_REENCRYPTOR
    handles: type[Event] = ReencryptionWoken

    def __init__(self, store: Store, reencrypter: Reencrypter, settings: WorkerSettings) -> None:
        super().__init__(store, settings)
        self._reencrypter = reencrypter

    async def _plan(self, job: Job, asker: Asker) -> Prepared | None:
        return await self._reencrypter.plan(job.container_id or "", job.cursor, asker)

    async def _apply(self, unit: Unit, job: Job, step: Prepared) -> None:
        applied = await self._reencrypter.apply(unit, step)
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
        worth = tells(job, done, unit.clock.now(), self._settings)
        await jobs.go_on(unit, job, cursor=step.cursor, done=done, progressed=worth)
        if worth:
            unit.emit(_progressed(step.seen, applied))


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
