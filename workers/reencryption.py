"""Re-encrypt one container, whatever lies in it: a bounded step at a time, told as it goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from schemas.event import Event
from schemas.facts import AlertRaised
from schemas.identifiers import Audience, Severity
from twinlock.content.containers import Container
from twinlock.content.reencrypt import Applied
from twinlock.custody.port import Asker
from twinlock.store.unit import Unit
from workers import jobs
from workers.jobs import Job
from workers.observing import Observer
from workers.progress import notes, tells
from workers.settings import WorkerSettings


class Prepared(Protocol):
    """Be a prepared step; `cursor` is None when there was nothing left behind the last one."""

    @property
    def seen(self) -> Container:
        """Return the container as it was read."""
        ...

    @property
    def damaged(self) -> tuple[str, ...]:
        """Name what does not decrypt."""
        ...

    @property
    def cursor(self) -> str | None:
        """Return where the next step begins."""
        ...


PreparedT = TypeVar("PreparedT", bound=Prepared)


class Planner(Protocol[PreparedT]):
    """Move what lies in a container to its newest key, one bounded step at a time."""

    async def plan(self, container_id: str, cursor: str, asker: Asker, /) -> PreparedT | None:
        """Prepare the next step behind `cursor`, or return None where the container was removed."""
        ...

    async def apply(self, unit: Unit, step: PreparedT, /) -> Applied:
        """Commit a step, or raise `StaleRead` where the container's keys moved on."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """Say what is told of a container: `what` lies in it, how far it is, and that it is done."""

    what: str
    damaged: str  # the kind of the alert
    progressed: Callable[[Container, int], Event]
    completed: Callable[[Container], Event]


class Reencryption(Generic[PreparedT]):
    """Plan and apply the steps of jobs."""

    def __init__(self, planner: Planner[PreparedT], facts: Facts, settings: WorkerSettings, observer: Observer) -> None:
        self._planner = planner
        self._observer = observer
        self._facts = facts
        self._settings = settings

    async def plan(self, job: Job, asker: Asker) -> PreparedT | None:
        """Prepare a step of a job, or return None where its container was removed."""
        return await self._planner.plan(job.container_id or "", job.cursor, asker)

    async def apply(self, unit: Unit, job: Job, step: PreparedT) -> None:
        """Commit a step, and go on with the job, put it off or finish it."""
        applied = await self._planner.apply(unit, step)
        self._observer.reencrypted(job.worker, applied.items, applied.bytes)
        if applied.finished:
            await jobs.finish(unit, job)
            unit.emit(self._facts.completed(step.seen))
            return
        if applied.damaged and not job.trouble:
            unit.emit(self._alert(step.seen, applied))
        if step.cursor is None:
            reason = f"{self._facts.what} that do not decrypt are left"
            await jobs.put_off(unit, job, reason, self._settings.trouble_most, restart=True)
            return
        done = job.done + applied.items
        now = unit.clock.now()
        worth = tells(job, done, now, self._settings)
        await jobs.go_on(unit, job, cursor=step.cursor, done=done, progressed=worth or notes(job, done, now))
        if worth:
            seen = step.seen
            unit.emit(self._facts.progressed(seen, min(seen.items, seen.newest.items + applied.items)))

    def _alert(self, seen: Container, applied: Applied) -> AlertRaised:
        return AlertRaised(
            kind=self._facts.damaged,
            severity=Severity.CRITICAL,
            audience=Audience.ENGINEERING,
            tenant=seen.tenant,
            policy=seen.policy_id,
            detail=f"{self._facts.what} of {seen.name} do not decrypt: {', '.join(applied.damaged[:10])}",
        )
