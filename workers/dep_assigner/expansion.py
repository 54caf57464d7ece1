"""Expand an assignment or a roll, a bounded batch of mailboxes at a time.

Each mailbox is protected at once, in one short transaction: a new key generation under the target, and the old ones
rewrapped under it. Its re-encryption then goes on as a job of its own.
"""

from sqlalchemy import select

from schemas.event import Event
from schemas.facts import AssignmentWoken
from schemas.identifiers import Workload
from schemas.names import DEP_ASSIGNER
from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker, Custodian
from twinlock.errors import NotFound
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader, StaleRead, Store, Unit
from workers import jobs, outcomes, switching
from workers.dep_assigner import rolls
from workers.dep_assigner.eligibility import why_not
from workers.dep_assigner.outcomes import conclude
from workers.jobs import Job
from workers.mailbox_reencryptor.orders import order
from workers.observing import Observer
from workers.settings import WorkerSettings
from workers.steps import Step
from workers.switching import Batch
from workers.trouble import pause

ASSIGN = "assign"
ROLL = "roll"
LEFT_BEHIND = "mailboxes are left under an older policy key"


class ExpandStep(Step[Batch]):
    """Handle a wake-up: claim the next assignment or roll and take one batch of its mailboxes."""

    consumer = DEP_ASSIGNER
    handles: type[Event] = AssignmentWoken

    def __init__(
        self, store: Store, custodian: Custodian, settings: WorkerSettings, observer: Observer | None = None
    ) -> None:
        super().__init__(store, settings, observer)
        self._custodian = custodian

    async def _plan(self, job: Job, asker: Asker) -> Batch:
        async with self._store.read() as reader:
            policy = await switching.target_of(reader, job)
            batch, seen = await self._read(reader, job, policy)
        # Nobody waits for a roll's list: it goes on when the keys answer again.
        prepared = await switching.prepare(self._custodian, seen, policy, asker, rejects=job.kind != ROLL)
        batch.switches = prepared.switches
        batch.rejected.update(prepared.rejected)
        return batch

    async def _read(self, reader: Reader, job: Job, policy: Policy) -> tuple[Batch, list[Container]]:
        """Read the next mailboxes and sort them: to be switched, unchanged, rejected."""
        found, batch = await self._next(reader, job, policy)
        trials = {row.name for row in await reader.rows(select(tenants.c.name).where(tenants.c.trial.is_(True)))}
        seen = []
        for name, container in found:
            trial = container is not None and container.tenant in trials
            # A roll brings along whatever is under the policy, also what it could not be assigned any more.
            reason = None if job.kind == ROLL else why_not(container, policy, job.tenant_id, trial)
            if container is None or reason is not None:
                batch.rejected[name] = reason or "there is no such mailbox"
            elif switching.is_under(container, policy):
                batch.unchanged.append(name)
            else:
                seen.append(container)
        return batch, seen

    async def _next(self, reader: Reader, job: Job, policy: Policy) -> tuple[list[tuple[str, Container | None]], Batch]:
        size = self._settings.assign_batch
        if job.kind == ROLL:
            page = await rolls.left_behind(reader, policy, job.cursor, size)
            cursor = page[-1].id if page else job.cursor
            return [(container.name, container) for container in page], Batch(policy, cursor, len(page) < size)
        if "mailboxes" in job.payload:
            names = [name for name in job.payload["mailboxes"] if name > job.cursor][:size]
            found = [(name, await _find(reader, name)) for name in names]
            return found, Batch(policy, names[-1] if names else job.cursor, len(names) < size)
        page = await containers.page(reader, job.tenant_id, Workload.MAILBOX, job.cursor, size)
        cursor = page[-1].name if page else job.cursor
        return [(container.name, container) for container in page], Batch(policy, cursor, len(page) < size)

    async def _apply(self, unit: Unit, job: Job, batch: Batch) -> None:
        """Switch the batch's mailboxes and order their re-encryption."""
        await switching.check_policies(unit, batch.policy, batch.switches)
        switched = await generations.switch_all(unit, batch.switches)
        if len(switched) < len(batch.switches):
            raise StaleRead
        for locked in switched:
            await order(unit, locked, batch.policy.id, locked.items)
        assigned = [*(locked.name for locked in switched), *batch.unchanged]
        # A roll comes back to what it could not take: that is no outcome yet.
        await outcomes.note(unit, job.id, assigned, {} if job.kind == ROLL else batch.rejected)
        if batch.ended and job.kind == ROLL and await rolls.left_behind(unit, batch.policy, "", 1):
            # Damaged, or stored meanwhile by a writer with the older key: while one is left the older key has to stay.
            await jobs.put_off(unit, job, LEFT_BEHIND, pause(job, unit.clock.now(), self._settings), restart=True)
        elif batch.ended:
            await conclude(unit, job, batch.policy)
        else:
            done = job.done + len(assigned) + len(batch.rejected)
            await jobs.go_on(unit, job, cursor=batch.cursor, done=done, progressed=True)


async def _find(reader: Reader, address: str) -> Container | None:
    try:
        return await containers.find_mailbox(reader, address)
    except NotFound:
        return None
