"""One wake-up, one bounded step: a batch of sites onto another TIK, or blobs of one site to its newest key."""

from schemas.event import Event
from schemas.facts import RolloutWoken, SiteProgressed, SiteReencrypted
from schemas.names import SITE_REENCRYPTOR
from twinlock.content.containers import Container
from twinlock.content.reblob import BlobReencrypter, BlobStep
from twinlock.custody.port import Asker, Custodian
from twinlock.store.unit import Store, Unit
from workers.jobs import Job
from workers.observing import Observer
from workers.reencryption import Facts, Reencryption
from workers.settings import WorkerSettings
from workers.site_reencryptor.rollout import Rollout
from workers.steps import Step
from workers.switching import Batch


class SiteStep(Step[Batch | BlobStep]):
    """Handle a wake-up: claim the job that has waited longest and take one step of it."""

    consumer = SITE_REENCRYPTOR
    handles: type[Event] = RolloutWoken

    def __init__(
        self,
        store: Store,
        custodian: Custodian,
        reencrypter: BlobReencrypter,
        settings: WorkerSettings,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(store, settings, observer)
        self._rollout = Rollout(store, custodian, settings)
        self._reencryption = Reencryption(reencrypter, _FACTS, settings, self.observer)

    async def _plan(self, job: Job, asker: Asker) -> Batch | BlobStep | None:
        if job.container_id is not None:
            return await self._reencryption.plan(job, asker)
        return await self._rollout.plan(job, asker)

    async def _apply(self, unit: Unit, job: Job, work: Batch | BlobStep) -> None:
        if isinstance(work, Batch):
            await self._rollout.apply(unit, job, work)
        else:
            await self._reencryption.apply(unit, job, work)


def _progressed(seen: Container, done: int) -> SiteProgressed:
    return SiteProgressed(
        site=_name(seen),
        tenant=seen.tenant,
        policy=seen.policy_id,
        generation=seen.newest.number,
        files=seen.items,
        files_encrypted=done,
    )


def _completed(seen: Container) -> SiteReencrypted:
    return SiteReencrypted(
        site=_name(seen),
        tenant=seen.tenant,
        policy=seen.policy_id,
        generation=seen.newest.number,
        files=seen.items,
    )


def _name(seen: Container) -> str:
    return seen.name.partition("/")[2]


_FACTS = Facts("files", "corrupt-file", _progressed, _completed)
