"""One wake-up, one bounded step: items of the mailbox that has waited longest go to its newest key."""

from schemas.event import Event
from schemas.facts import ReencryptionCompleted, ReencryptionProgressed, ReencryptionWoken
from schemas.names import MAILBOX_REENCRYPTOR
from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.content.generations import Switch
from twinlock.content.reencrypt import Reencrypter
from twinlock.content.reencrypt import Step as Prepared
from twinlock.custody.port import Asker, Custodian
from twinlock.store.unit import Store, Unit
from workers import jobs, overdue
from workers.jobs import Job
from workers.observing import Observer
from workers.reencryption import Facts, Reencryption
from workers.settings import WorkerSettings
from workers.steps import Step


class ReencryptStep(Step[Prepared | Switch]):
    """Handle a wake-up: claim the next mailbox and take one step with it.

    The step of a mailbox that is long overdue and does not get on is a move, once: a new key, and all from the start.
    """

    consumer = MAILBOX_REENCRYPTOR
    handles: type[Event] = ReencryptionWoken

    def __init__(
        self,
        store: Store,
        custodian: Custodian,
        reencrypter: Reencrypter,
        settings: WorkerSettings,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(store, settings, observer)
        self._custodian = custodian
        self._work = Reencryption(reencrypter, _FACTS, settings, self.observer)

    async def _plan(self, job: Job, asker: Asker) -> Prepared | Switch | None:
        if overdue.is_stuck(job, self._store.clock.now(), self._settings):
            moved = await self._moved(job, asker)
            if moved is not None:
                return moved
        return await self._work.plan(job, asker)

    async def _moved(self, job: Job, asker: Asker) -> Switch | None:
        """Have a new key made, unless an assignment to another policy came in between, which brings one anyhow."""
        async with self._store.read() as reader:
            seen = await containers.load(reader, job.container_id or "")
        if seen is None or seen.policy_id != job.policy_id:
            return None
        (made,) = await self._custodian.make_container_keys([seen.ref(seen.newest.number + 1)], seen.policy_id, asker)
        return Switch(seen, made, ())

    async def _apply(self, unit: Unit, job: Job, step: Prepared | Switch) -> None:
        if isinstance(step, Switch):
            locked = await containers.lock_as_read(unit, step.seen)
            left = await generations.renew(unit, locked, step.newest)
            await jobs.begin_again(unit, job, left, overdue.MOVED)
        else:
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
