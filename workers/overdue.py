"""Work on a policy's containers that takes longer than it should: it is told, once for each target."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, update

from schemas.facts import AlertRaised
from schemas.identifiers import Audience, Severity
from twinlock.store.tables.content import containers
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause, Store, Unit, new_id
from workers.jobs import Job
from workers.settings import WorkerSettings

KIND = "reencryption-overdue"
TOLD, MOVED = "told", "moved"
_WORK = ("assign", "roll", "reencrypt")
_BATCH = 500

_job = jobs.c


async def look(store: Store, worker: str, settings: WorkerSettings) -> None:
    """Tell of a worker's jobs that are overdue, one alert a policy."""
    before = store.clock.now() - timedelta(seconds=settings.overdue_seconds)
    late = (_job.worker == worker, _job.kind.in_(_WORK), _job.overdue.is_(None), _job.target_at <= before)
    async with store.read() as reader:
        if await reader.scalar(select(_job.id).where(*late).limit(1)) is None:
            return
    async with store.begin(Cause(new_id())) as unit:
        query = (
            select(_job.id, _job.policy_id, _job.done, _job.total, _job.trouble, _job.target_at)
            .add_columns(containers.c.name.label("container"), tenants.c.name.label("tenant"))
            .join(containers, containers.c.id == _job.container_id, isouter=True)
            .join(tenants, tenants.c.id == _job.tenant_id)
        )
        rows = await unit.rows(query.where(*late).order_by(_job.target_at).limit(_BATCH).with_for_update(of=jobs))
        await _tell(unit, rows, settings)
        await unit.execute(update(jobs).where(_job.id.in_([row.id for row in rows])).values(overdue=TOLD))


async def _tell(unit: Unit, rows: Any, settings: WorkerSettings) -> None:
    found: defaultdict[tuple[str, str], list[Row[Any]]] = defaultdict(list)
    for row in rows:
        found[row.tenant, row.policy_id].append(row)
    for (tenant, policy), late in found.items():
        hours, first = settings.overdue_seconds / 3600, late[0]
        what = f"the re-encryption of {first.container}" if first.container else "an assignment"
        more = f", and {len(late) - 1} more" if len(late) > 1 else ""
        trouble = f": {first.trouble}" if first.trouble else ""
        detail = f"{what} is not done after {hours:g} h ({first.done} of {first.total}){more}{trouble}"
        unit.emit(
            AlertRaised(
                kind=KIND,
                severity=Severity.WARNING,
                audience=Audience.ENGINEERING,
                tenant=tenant,
                policy=policy,
                detail=detail,
            )
        )


def is_stuck(job: Job, now: datetime, settings: WorkerSettings) -> bool:
    """Tell whether a job that was told to be overdue has not got on for so long that its mailbox is to be moved."""
    idle = (now - (job.progressed_at or job.created_at)).total_seconds()
    return job.overdue == TOLD and idle >= settings.stuck_seconds
