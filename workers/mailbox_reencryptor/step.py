"""One wake-up, one bounded step: items of the mailbox that has waited longest go to its newest key."""

from schemas.event import Event
from schemas.facts import ReencryptionCompleted, ReencryptionProgressed, ReencryptionWoken
from schemas.names import MAILBOX_REENCRYPTOR
from twinlock.content.containers import Container
from twinlock.content.reencrypt import Reencrypter
from twinlock.content.reencrypt import Step as Prepared
from twinlock.custody.port import Asker
from twinlock.store.unit import Store, Unit
from workers.jobs import Job
from workers.reencryption import Facts, Reencryption
from workers.settings import WorkerSettings
from workers.steps import Step


class ReencryptStep(Step[Prepared]):
    """Handle a wake-up: claim the next mailbox and take one step with it."""

    consumer = MAILBOX_REENCRYPTOR
    handles: type[Event] = ReencryptionWoken

    def __init__(self, store: Store, reencrypter: Reencrypter, settings: WorkerSettings) -> None:
        super().__init__(store, settings)
        self._work = Reencryption(reencrypter, _FACTS, settings)

    async def _plan(self, job: Job, asker: Asker) -> Prepared | None:
        return await self._work.plan(job, asker)

    async def _apply(self, unit: Unit, job: Job, step: Prepared) -> None:
        await self._work.apply(unit, job, step)


def _progressed(seen: Container, done: int) -> ReencryptionProgressed:
    return ReencryptionProgressed(
        mailbox=seen.name,
        tenant=seen.tenant,
        policy=seen.policy_id,
        generation=seen.newest.number,
        items=seen.items,
        items_encrypted=done,
    )


def _completed(seen: Container) -> ReencryptionCompleted:
    return ReencryptionCompleted(
        mailbox=seen.name,
        tenant=seen.tenant,
        policy=seen.policy_id,
        generation=seen.newest.number,
        items=seen.items,
    )


_FACTS = Facts("items", "corrupt-item", _progressed, _completed)
