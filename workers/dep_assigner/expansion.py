"""Expand an assignment or a roll, a bounded batch of mailboxes at a time.

Each mailbox is protected at once, in one short transaction: a new key generation under the target, and the old ones
rewrapped under it. Its re-encryption then goes on as a job of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import insert, select

from events.handler import Received
from schemas.event import Event
from schemas.facts import AssignmentWoken
from schemas.identifiers import PolicyState, Workload
from schemas.names import DEP_ASSIGNER
from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.crashpoints import CrashPoint, reach
from twinlock.custody.errors import GenerationGone, KeyRefused
from twinlock.custody.policies import Policy, load_policy
from twinlock.custody.port import Asker, Custodian, JobRef, WrappedContainerKey, service
from twinlock.errors import NotFound
from twinlock.keys.errors import DecryptionError
from twinlock.store.tables.custody import policies
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import assignment_outcomes
from twinlock.store.unit import Reader, StaleRead, Store, Unit
from workers import jobs, wakeups
from workers.dep_assigner import rolls
from workers.dep_assigner.eligibility import why_not
from workers.dep_assigner.outcomes import conclude
from workers.jobs import Job
from workers.mailbox_reencryptor.orders import order
from workers.settings import WorkerSettings
from workers.trouble import TROUBLE, pause

ASSIGN = "assign"
ROLL = "roll"
DAMAGED = "its key does not decrypt; bring its row back from a backup"
LEFT_BEHIND = "mailboxes are left under an older policy key"


@dataclass(frozen=True, slots=True)
class _Switch:
    seen: Container
    newest: WrappedContainerKey
    rewrapped: tuple[WrappedContainerKey, ...]


@dataclass(slots=True)
class _Batch:
    """Hold what one step does: mailboxes to switch, those that stay, those that are rejected with their reasons."""

    policy: Policy
    cursor: str
    ended: bool
    switches: list[_Switch] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Plan:
    wake: str
    slot: int
    current: bool
    job: Job | None = None
    batch: _Batch | None = None
    trouble: str = ""


class ExpandStep:
    """Handle a wake-up: claim the next assignment or roll and take one batch of its mailboxes."""

    consumer = DEP_ASSIGNER
    handles: type[Event] = AssignmentWoken

    def __init__(self, store: Store, custodian: Custodian, settings: WorkerSettings) -> None:
        self._store = store
        self._custodian = custodian
        self._settings = settings

    async def prepare(self, event: AssignmentWoken, received: Received) -> _Plan:
        """Claim a job and have the custodian make and rewrap the keys of its next mailboxes."""
        wake = received.envelope.id
        async with self._store.read() as reader:
            if not await wakeups.is_current(reader, self.consumer, event.slot, wake):
                return _Plan(wake, event.slot, current=False)
        job = await jobs.claim(self._store, self.consumer, wake, self._settings.lease_seconds, event.slot)
        reach(CrashPoint.AFTER_CLAIM)
        if job is None:
            return _Plan(wake, event.slot, current=True)
        try:
            asker = Asker(service(job.kind), job.cause(wake), job=JobRef(job.id))
            batch = await self._prepare_batch(job, asker)
        except GenerationGone:
            raise StaleRead from None  # a re-encryption ended, or a mailbox went, since it was read
        except TROUBLE as trouble:
            return _Plan(wake, event.slot, current=True, job=job, trouble=str(trouble))
        return _Plan(wake, event.slot, current=True, job=job, batch=batch)

    async def _prepare_batch(self, job: Job, asker: Asker) -> _Batch:
        async with self._store.read() as reader:
            policy = await load_policy(reader, job.policy_id or "")
            if policy is None:
                raise NotFound("the policy of a job is gone")
            batch, seen = await self._read(reader, job, policy)
        by_source: dict[str, list[Container]] = {}
        for container in seen:
            by_source.setdefault(container.policy_id, []).append(container)
        for group in by_source.values():
            try:
                batch.switches += await self._switch(group, policy, asker)
            except KeyRefused as refused:
                if job.kind == ROLL:  # nobody waits for a roll's list: it goes on when the keys answer again
                    raise
                reason = f"{refused.detail}; {refused.hint}" if refused.hint else refused.detail
                batch.rejected.update((container.name, reason) for container in group)
            except DecryptionError:
                await self._switch_each(batch, group, asker)
        return batch

    async def _switch_each(self, batch: _Batch, group: Sequence[Container], asker: Asker) -> None:
        """Prepare mailboxes one by one: a key that was damaged or moved holds up its own mailbox alone."""
        for seen in group:
            try:
                batch.switches += await self._switch([seen], batch.policy, asker)
            except DecryptionError:
                batch.rejected[seen.name] = DAMAGED

    async def _read(self, reader: Reader, job: Job, policy: Policy) -> tuple[_Batch, list[Container]]:
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
            elif _is_under(container, policy):
                batch.unchanged.append(name)
            else:
                seen.append(container)
        return batch, seen

    async def _next(
        self, reader: Reader, job: Job, policy: Policy
    ) -> tuple[list[tuple[str, Container | None]], _Batch]:
        size = self._settings.assign_batch
        if job.kind == ROLL:
            page = await rolls.left_behind(reader, policy, job.cursor, size)
            cursor = page[-1].id if page else job.cursor
            return [(container.name, container) for container in page], _Batch(policy, cursor, len(page) < size)
        if "mailboxes" in job.payload:
            names = [name for name in job.payload["mailboxes"] if name > job.cursor][:size]
            found = [(name, await _find(reader, name)) for name in names]
            return found, _Batch(policy, names[-1] if names else job.cursor, len(names) < size)
        page = await containers.page(reader, job.tenant_id, Workload.MAILBOX, job.cursor, size)
        cursor = page[-1].name if page else job.cursor
        return [(container.name, container) for container in page], _Batch(policy, cursor, len(page) < size)

    async def _switch(self, group: Sequence[Container], policy: Policy, asker: Asker) -> list[_Switch]:
        """Prepare mailboxes that leave one policy together: its root keys are asked once for all of them."""
        old = [seen.ref(number) for seen in group for number in sorted(seen.live)]
        rewrapped = await self._custodian.rewrap_containers(old, policy.id, asker)
        fresh = [seen.ref(seen.newest.number + 1) for seen in group]
        made = await self._custodian.make_container_keys(fresh, policy.id, asker)
        owned: dict[str, list[WrappedContainerKey]] = {}
        for key in rewrapped:
            owned.setdefault(key.ref.container_id, []).append(key)
        return [_Switch(seen, newest, tuple(owned[seen.id])) for seen, newest in zip(group, made, strict=True)]

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Switch the batch's mailboxes, order their re-encryption, and pass the wake-up on."""
        if not plan.current:
            return
        if plan.job is not None and await jobs.held(unit, plan.job):
            if plan.batch is None:
                await jobs.put_off(unit, plan.job, plan.trouble, pause(plan.job, unit.clock.now(), self._settings))
            else:
                await _apply(unit, plan.job, plan.batch, self._settings)
        await wakeups.pass_on(unit, self.consumer, plan.slot, plan.wake)


def _is_under(container: Container, policy: Policy) -> bool:
    """Tell whether every live key is wrapped by the policy's newest key already."""
    target = (policy.id, policy.newest_generation)
    return all((key.policy_id, key.policy_key_generation) == target for key in container.generations)


async def _find(reader: Reader, address: str) -> Container | None:
    try:
        return await containers.find_mailbox(reader, address)
    except NotFound:
        return None


async def _apply(unit: Unit, job: Job, batch: _Batch, settings: WorkerSettings) -> None:
    unit.cause = job.cause(unit.cause.causation or unit.cause.correlation)
    await _check_policies(unit, batch)
    # In one order for all: two batches with the same mailboxes would otherwise wait for each other.
    for switch in sorted(batch.switches, key=lambda switch: switch.seen.id):
        locked = await containers.lock_as_read(unit, switch.seen)
        left = await generations.switch(unit, locked, switch.newest, switch.rewrapped)
        await order(unit, locked, batch.policy.id, left)
    await _note(unit, job, batch)
    if batch.ended and job.kind == ROLL and await rolls.left_behind(unit, batch.policy, "", 1):
        # Damaged, or stored meanwhile by a writer with the older key: while one is left the older key has to stay.
        await jobs.put_off(unit, job, LEFT_BEHIND, pause(job, unit.clock.now(), settings), restart=True)
    elif batch.ended:
        await conclude(unit, job, batch.policy)
    else:
        done = job.done + len(batch.switches) + len(batch.unchanged) + len(batch.rejected)
        await jobs.go_on(unit, job, cursor=batch.cursor, done=done, progressed=True)


async def _check_policies(unit: Unit, batch: _Batch) -> None:
    """Raise `StaleRead` where a policy of the batch was revoked, or its target rolled, since the keys were wrapped."""
    if not batch.switches:
        return
    ids = {batch.policy.id, *(key.policy_id for switch in batch.switches for key in switch.seen.generations)}
    active = select(policies).where(policies.c.id.in_(ids), policies.c.state == PolicyState.ACTIVE)
    rows = await unit.rows(active.order_by(policies.c.id).with_for_update(key_share=True))
    newest = {row.id: row.newest_generation for row in rows}
    if newest.keys() != ids or newest[batch.policy.id] != batch.policy.newest_generation:
        raise StaleRead


async def _note(unit: Unit, job: Job, batch: _Batch) -> None:
    # A roll comes back to what it could not take: that is no outcome yet.
    rejected = {} if job.kind == ROLL else batch.rejected
    names: Sequence[tuple[str, str, str]] = [
        *((switch.seen.name, "assigned", "") for switch in batch.switches),
        *((name, "assigned", "") for name in batch.unchanged),
        *((name, "rejected", reason) for name, reason in rejected.items()),
    ]
    if names:
        rows = [{"job_id": job.id, "container": name, "outcome": out, "reason": why[:500]} for name, out, why in names]
        await unit.execute(insert(assignment_outcomes), rows)
