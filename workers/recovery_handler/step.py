"""One wake-up, one step of what was approved; which action it is decides who does it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from schemas.event import Event
from schemas.facts import RecoveryWoken
from schemas.names import RECOVERY_HANDLER
from twinlock.custody.port import Asker
from twinlock.store.unit import Store, Unit
from workers.jobs import Job
from workers.observing import Observer
from workers.recovery_handler.carrying import AnyCarrying
from workers.settings import WorkerSettings
from workers.steps import Step

_DEADLINE = 60.0  # several vaults are asked, one after the other, for every generation of a policy key


class CarryOutStep(Step[Any]):
    """Handle a wake-up: claim the job that has waited longest and take one step of it."""

    consumer = RECOVERY_HANDLER
    handles: type[Event] = RecoveryWoken

    def __init__(
        self,
        store: Store,
        carrying: Mapping[str, AnyCarrying],
        settings: WorkerSettings,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(store, settings, observer)
        self._carrying = carrying

    async def _plan(self, job: Job, asker: Asker) -> Any:
        return await self._carrying[job.kind].plan(job, replace(asker, deadline=_DEADLINE))

    async def _apply(self, unit: Unit, job: Job, work: Any) -> None:
        await self._carrying[job.kind].apply(unit, job, work)
