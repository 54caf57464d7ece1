"""Unfinished background work is a row (law 12): put, claim under a lease, go on, put off, finish.

Fencing: every claim and every new target raises the job's number, and each commit of a step checks that it is still the
one that was claimed. So whoever worked on an older state, or lost the lease, changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, case, delete, func, or_, select, update
from sqlalchemy.engine import Row

from twinlock.store.once import insert_once
from twinlock.store.tables.work import jobs, turns, wake_slots
from twinlock.store.text import storable
from twinlock.store.unit import Cause, Reader, StaleRead, Store, Unit

_TENANTS = 100  # that are asked one after the other for a job that nobody claims: as many would have to claim at once


@dataclass(frozen=True, slots=True)
class NewJob:
    """Describe work to be done; one id is one job, and putting it again gives it a new target."""

    id: str
    worker: str
    kind: str
    tenant_id: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    container_id: str | None = None
    policy_id: str | None = None
    total: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """Hold a claimed job; `fencing` is the number that its commit must still find."""

    id: str
    worker: str
    kind: str
    tenant_id: str
    container_id: str | None
    policy_id: str | None
    payload: Mapping[str, Any]
    cursor: str
    total: int
    done: int
    trouble: str
    fencing: int
    correlation: str
    created_at: datetime
    progressed_at: datetime | None
    overdue: str | None = None

    def cause(self, causation: str) -> Cause:
        """Return the cause of what a step of this job sets off."""
        return Cause(self.correlation, causation)


async def put(unit: Unit, new: NewJob) -> None:
    """Store a job, or give the one with this id a new target; whoever works on the old target can't commit."""
    target: dict[str, Any] = {
        "policy_id": new.policy_id,
        "payload": dict(new.payload),
        "cursor": None,
        "total": new.total,
        "done": 0,
        "not_before": unit.clock.now(),
        "trouble": "",
        "lease_owner": None,
        "lease_until": None,
        "correlation": unit.cause.correlation,
        "target_at": unit.clock.now(),
        "overdue": None,
    }
    again = update(jobs).where(jobs.c.id == new.id).values(**target, fencing=jobs.c.fencing + 1)
    if await _insert(unit, new, target):
        await unit.execute(insert_once(unit, turns).values(worker=new.worker, tenant_id=new.tenant_id, turn=0))
    elif not (await unit.execute(again)).rowcount:
        raise StaleRead  # it was there a moment ago, and is done now


async def _insert(unit: Unit, new: NewJob, target: Mapping[str, Any]) -> bool:
    added = await unit.execute(
        insert_once(unit, jobs).values(
            id=new.id,
            worker=new.worker,
            kind=new.kind,
            tenant_id=new.tenant_id,
            container_id=new.container_id,
            fencing=1,
            turn=0,
            created_at=unit.clock.now(),
            progressed_at=None,
            **target,
        )
    )
    return bool(added.rowcount)


async def has_slot(unit: Unit, worker: str, slot: int, owner: str) -> bool:
    """Lock a slot and tell whether a wake-up holds it: copies of one claim and commit one after the other."""
    own = (wake_slots.c.worker == worker) & (wake_slots.c.slot == slot)
    return bool(await unit.scalar(select(wake_slots.c.event_id).where(own).with_for_update()) == owner)


async def claim(store: Store, worker: str, owner: str, lease_seconds: float, slot: int | None = None) -> Job | None:
    """Lease the next due job of the tenant that has waited longest, or none.

    Who claims at the same time takes the next tenant, or where there is no other one the next job; nobody waits. Two
    turns at once may get one number, which is as fair.

    `owner` is the wake-up's id: when the same wake-up comes again, it takes up the job that it had, at once. One that
    has passed its `slot` on claims nothing.
    """
    async with store.begin(Cause(owner)) as unit:
        if slot is not None and not await has_slot(unit, worker, slot, owner):
            return None
        row = await unit.row(_of_owner(worker, owner)) or await _next_due(unit, worker)
        if row is None:
            return None
        turn = await _take_turn(unit, worker, row.tenant_id)
        leased = {"lease_owner": owner, "lease_until": unit.clock.now() + timedelta(seconds=lease_seconds)}
        await unit.execute(update(jobs).where(jobs.c.id == row.id).values(**leased, fencing=row.fencing + 1, turn=turn))
        return _job(row)


async def _take_turn(unit: Unit, worker: str, tenant_id: str) -> int:
    """Put a tenant behind all others; where somebody else is at it that is done already, and nobody waits."""
    turn = 1 + (await unit.scalar(select(func.max(turns.c.turn)).where(turns.c.worker == worker)) or 0)
    own = (turns.c.worker == worker) & (turns.c.tenant_id == tenant_id)
    if await unit.row(select(turns.c.turn).where(own).with_for_update(skip_locked=True)) is not None:
        await unit.execute(update(turns).where(own).values(turn=turn))
    return turn


def _of_owner(worker: str, owner: str) -> Select[*tuple[Any, ...]]:
    return select(jobs).where(jobs.c.worker == worker, jobs.c.lease_owner == owner).with_for_update(skip_locked=True)


async def _next_due(unit: Unit, worker: str) -> Row[Any] | None:
    """Return the next job of the tenant that has waited longest, and whose turn nobody takes now; or of any."""
    waiting = _waiting(worker, unit.clock.now())
    tenant = await unit.scalar(waiting.limit(1).with_for_update(skip_locked=True))
    if tenant is not None and (row := await unit.row(_first(worker, tenant, unit.clock.now()))) is not None:
        return row
    for other in await unit.rows(waiting.limit(_TENANTS)):
        if (row := await unit.row(_first(worker, other.tenant_id, unit.clock.now()))) is not None:
            return row
    return None


def _waiting(worker: str, now: datetime) -> Select[tuple[str]]:
    """Select the tenants with a due job, whoever has waited longest first."""
    # With EXISTS, or without the order, PostgreSQL looks for each tenant through everything that the largest one has.
    due = select(jobs.c.id).where(_due(worker, now), jobs.c.tenant_id == turns.c.tenant_id).order_by(jobs.c.not_before)
    has_one = due.limit(1).scalar_subquery().is_not(None)
    return select(turns.c.tenant_id).where(turns.c.worker == worker, has_one).order_by(turns.c.turn)


def _first(worker: str, tenant: str, now: datetime) -> Select[*tuple[Any, ...]]:
    """Select a tenant's next due job of those that nobody claims now."""
    # SQLite would go by the time, and sort everything that a tenant has, for one row: so it sees no bound of it here.
    is_due = case((jobs.c.not_before <= now, 1), else_=0) == 1
    found = select(jobs).where(jobs.c.worker == worker, jobs.c.tenant_id == tenant, is_due, _is_free(now))
    return found.order_by(jobs.c.turn, jobs.c.id).limit(1).with_for_update(skip_locked=True)


def _due(worker: str, now: datetime) -> Any:
    return and_(jobs.c.worker == worker, jobs.c.not_before <= now, _is_free(now))


def _is_free(now: datetime) -> Any:
    return or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= now)


async def count_due(reader: Reader, worker: str, now: datetime, most: int) -> int:
    """Return how many jobs are due and free, counting no further than `most`."""
    some = select(jobs.c.id).where(_due(worker, now)).order_by(jobs.c.not_before).limit(most).subquery()
    return int(await reader.scalar(select(func.count()).select_from(some)))


async def held(unit: Unit, job: Job) -> bool:
    """Lock a claimed job's row and tell whether it is still ours; a job with a new target is not."""
    row = await unit.row(select(jobs.c.fencing).where(jobs.c.id == job.id).with_for_update())
    return row is not None and row.fencing == job.fencing


async def go_on(unit: Unit, job: Job, *, cursor: str, done: int, progressed: bool) -> None:
    """Note a step's progress and free the job for the next step."""
    values: dict[str, Any] = {"cursor": cursor, "done": done, "trouble": "", "lease_owner": None, "lease_until": None}
    if progressed:
        values["progressed_at"] = unit.clock.now()
    await unit.execute(update(jobs).where(jobs.c.id == job.id).values(**values))


async def put_off(unit: Unit, job: Job, reason: str, seconds: float, *, restart: bool = False) -> None:
    """Try a job again later because of trouble that is not its own; this is never an attempt.

    It goes on where it was, or from the start with `restart`.
    """
    await unit.execute(
        update(jobs)
        .where(jobs.c.id == job.id)
        .values(
            not_before=unit.clock.now() + timedelta(seconds=seconds),
            trouble=storable(reason, 500),
            cursor=None if restart else jobs.c.cursor,
            lease_owner=None,
            lease_until=None,
        )
    )


async def begin_again(unit: Unit, job: Job, total: int, overdue: str) -> None:
    """Have a job start from the beginning, because of something that was done about its being overdue."""
    again = {"cursor": None, "total": total, "done": 0, "trouble": "", "lease_owner": None, "lease_until": None}
    now = unit.clock.now()
    row = update(jobs).where(jobs.c.id == job.id)
    await unit.execute(
        row.values(**again, overdue=overdue, not_before=now, progressed_at=now, fencing=jobs.c.fencing + 1)
    )


async def park(unit: Unit, job: Job, until: datetime, correlation: str, reason: str = "") -> None:
    """Have a job wait for its time; whoever waited for what it belonged to waits no more."""
    values: dict[str, Any] = {"not_before": until, "trouble": storable(reason, 500), "correlation": correlation}
    await unit.execute(update(jobs).where(jobs.c.id == job.id).values(**values, lease_owner=None, lease_until=None))


async def adopt(unit: Unit, job_id: str) -> bool:
    """Have a parked job that is due belong to this unit's cause, and say whether it is one."""
    due = (jobs.c.id == job_id, jobs.c.not_before <= unit.clock.now())
    return bool((await unit.execute(update(jobs).where(*due).values(correlation=unit.cause.correlation))).rowcount)


async def give_back(unit: Unit, worker: str, owner: str) -> None:
    """Free whatever a wake-up leases; a copy of it that is still at work can't commit."""
    leased = update(jobs).where(jobs.c.worker == worker, jobs.c.lease_owner == owner)
    await unit.execute(leased.values(lease_owner=None, lease_until=None, fencing=jobs.c.fencing + 1))


async def finish(unit: Unit, job: Job) -> None:
    """Delete the row of a job that is done."""
    await unit.execute(delete(jobs).where(jobs.c.id == job.id))


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        worker=row.worker,
        kind=row.kind,
        tenant_id=row.tenant_id,
        container_id=row.container_id,
        policy_id=row.policy_id,
        payload=row.payload,
        cursor=row.cursor or "",
        total=row.total,
        done=row.done,
        trouble=row.trouble,
        fencing=row.fencing + 1,
        correlation=row.correlation,
        created_at=row.created_at,
        progressed_at=row.progressed_at,
        overdue=row.overdue,
    )
