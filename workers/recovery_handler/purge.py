"""Carry a purge out: look at the root keys, wait, look again, and destroy, the availability keys last.

What a step does is what the purge's row says comes next, and a step that was killed is done again. Both halves find the
request as it is: cancelled or too late, it ends here.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.identifiers import ApprovalState
from twinlock.approvals import telling
from twinlock.approvals.begun import check_begun
from twinlock.approvals.ending import end
from twinlock.approvals.errors import Refused
from twinlock.approvals.requests import Checked, check, locked
from twinlock.approvals.rows import Approval, find_approval, set_due
from twinlock.approvals.telling import purge_alert
from twinlock.content import purging as content
from twinlock.content.purging import ContentPurger
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import Asker, Recovering
from twinlock.keys.ports import Outcome
from twinlock.purging import rows
from twinlock.purging.beginning import begin
from twinlock.purging.rows import Look, Moment, Purge, Stage, find_purge
from twinlock.store.unit import StaleRead, Store, Unit
from workers import jobs
from workers.jobs import Job
from workers.recovery_handler.purge_keys import DestroyedKey, KeyPurger, Written
from workers.settings import WorkerSettings
from workers.trouble import pause


@dataclass(frozen=True, slots=True)
class Swept:
    """Hold what a step of the content has deleted; none where no container is left."""

    step: content.Step | None


@dataclass(frozen=True, slots=True)
class Work:
    """Hold what the slow half did, at which stage of the purge."""

    purge: Purge
    done: Look | Swept | DestroyedKey | Written


class CarryOutPurge:
    """Take a purge one step on."""

    def __init__(
        self,
        store: Store,
        recovering: Recovering,
        purger: ContentPurger,
        keys: KeyPurger,
        audit: AuditLog,
        settings: WorkerSettings,
        callers_seconds: float,
    ) -> None:
        self._store = store
        self._recovering = recovering
        self._content = purger
        self._keys = keys
        self._audit = audit
        self._settings = settings
        self._callers = timedelta(seconds=callers_seconds)

    async def plan(self, job: Job, asker: Asker) -> Work | None:
        """Ask the root keys, delete objects, or destroy a key; or return None where the purge is over."""
        await self._recovering.refuse_restored()
        async with self._store.read() as reader:
            approval = await find_approval(reader, job.payload["request"])
            purge = await find_purge(reader, approval.id)
        if purge.stage in (Stage.WAITING, Stage.COOLING):
            return await self._look(approval, purge, asker)
        await self._check_begun(approval, purge)
        if purge.stage is Stage.CONTENT:
            return Work(purge, Swept(await self._content.plan(purge.policy_id)))
        if purge.stage is Stage.DONE:
            return None
        return Work(purge, await self._keys.plan(approval, purge, asker))

    async def _check_begun(self, approval: Approval, purge: Purge) -> None:
        """Raise `KeyRefused` for a row that somebody moved: nothing is destroyed but what was signed for and begun."""
        done = (approval.state, approval.policy_id) == (ApprovalState.DONE, purge.policy_id)
        if not done or purge.begun_at is None:
            raise KeyRefused(f"purge {purge.id} was not begun by its request", policy=purge.policy_id)
        try:
            async with self._store.read() as reader:
                await check_begun(reader, approval, purge.begun_at)
        except Refused as refused:
            raise KeyRefused(refused.detail, policy=purge.policy_id, hint=refused.hint) from None

    async def _look(self, approval: Approval, purge: Purge, asker: Asker) -> Work | None:
        if approval.state is not ApprovalState.APPROVED:
            return None
        at = self._store.clock.now()
        return Work(purge, Look(at, await self._recovering.examine(purge.policy_id, asker)))

    async def taken_up(self, unit: Unit, approval: Approval) -> None:
        """Do nothing: the first step asks the root keys, and what it comes to is told."""

    async def apply(self, unit: Unit, job: Job, work: Work) -> None:
        """Write down what was done, and go on with the job, have it wait or finish it."""
        approval = await locked(unit, work.purge.id)
        purge = await find_purge(unit, approval.id)
        if purge.stage is not work.purge.stage:
            raise StaleRead
        match work.done:
            case Look() as look:
                await self._decide(unit, job, approval, purge, look)
            case Swept(None):
                await rows.move_on(unit, purge, Stage.KEYS)
                await _go_on(unit, job)
            case Swept(content.Step() as step):
                await rows.destroyed(unit, purge, await self._content.apply(unit, purge.id, step))
                await _go_on(unit, job)
            case DestroyedKey() as key:
                await self._keys.note(unit, purge, key)
                await _go_on(unit, job)
            case Written() as written:
                await self._write(unit, job, approval, purge, written)
        await telling.tell(unit)

    async def _decide(self, unit: Unit, job: Job, approval: Approval, purge: Purge, look: Look) -> None:
        """Go on where both root keys are definitely denied, end it where one answers, and else ask again later."""
        if approval.state is not ApprovalState.APPROVED:
            await jobs.finish(unit, job)
            return
        try:
            checked = await check(unit, approval.id)
        except Refused:
            late = unit.clock.now() >= approval.expires_at
            await self._end(unit, job, approval, ApprovalState.EXPIRED if late else ApprovalState.CANCELLED)
            return
        if look.denied:
            await self._go_ahead(unit, job, checked, purge, look)
        elif any(answer.outcome is Outcome.OK for answer in look.answers):
            unit.emit(purge_alert(approval.tenant, purge.policy_id, f"{approval.subject}: no purge, as {look}"))
            await self._end(unit, job, approval, ApprovalState.CANCELLED)
        else:
            later = unit.clock.now() + timedelta(seconds=pause(job, unit.clock.now(), self._settings))
            await jobs.park(unit, job, later, purge.id, f"both root keys have to be denied: {look}")

    async def _go_ahead(self, unit: Unit, job: Job, checked: Checked, purge: Purge, look: Look) -> None:
        if purge.stage is Stage.WAITING:
            due = max(unit.clock.now() + _wait(checked), self._unheld(checked))
            await set_due(unit, checked.approval, due)
            await rows.looked(unit, purge, Moment.APPROVED, look, Stage.COOLING)
            await jobs.park(unit, job, due, purge.id)
        elif (due := max(_due(checked), self._unheld(checked))) > unit.clock.now():
            await jobs.park(unit, job, due, purge.id)
        else:
            await begin(unit, checked, purge, look, self._audit)
            await _go_on(unit, job)

    def _unheld(self, checked: Checked) -> datetime:
        """Return from when on nobody holds a key under the policy: from its request on it serves nobody (law 8)."""
        return checked.statement.requested + self._callers

    async def _end(self, unit: Unit, job: Job, approval: Approval, state: ApprovalState) -> None:
        await end(unit, approval, state, self._audit)
        await jobs.finish(unit, job)

    async def _write(self, unit: Unit, job: Job, approval: Approval, purge: Purge, written: Written) -> None:
        """Keep the certificate; where a key is not gone for good yet, look again when its vault says that it is."""
        await self._keys.keep(unit, approval, purge, written)
        if written.final_at is None:
            await jobs.finish(unit, job)
        else:
            await jobs.park(unit, job, written.final_at, purge.id)


async def _go_on(unit: Unit, job: Job) -> None:
    await jobs.go_on(unit, job, cursor=job.cursor, done=job.done + 1, progressed=True)


def _wait(checked: Checked) -> timedelta:
    named = checked.statement.purge
    assert named is not None  # noqa: S101  # it was checked: a purge's statement has it
    return timedelta(seconds=named.wait_seconds)


def _due(checked: Checked) -> datetime:
    """Return when what was approved is due: never before all that the approvers signed for has passed."""
    last = max(each.at for each in checked.approval.signed)
    return max(last + _wait(checked), checked.approval.due or last)
