"""The details of `twinlock status`: custodians and what they hold, unfinished work, queues."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, select

from cli.commands.approval_documents import moment
from twinlock.custody.revocation import register as registered
from twinlock.custody.settings import CustodySettings
from twinlock.store.tables.bus import dead_letters, deliveries, outbox
from twinlock.store.tables.content import containers, object_intents, superseded_objects
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Reader

MOST_JOBS = 200


async def custodians(reader: Reader, now: datetime, settings: CustodySettings) -> list[dict[str, Any]]:
    """Describe every custodian that is registered, with what it held when it last confirmed the epoch."""
    found = await registered.read_all(reader)
    ages = [(now - each.confirmed_at).total_seconds() for each in found]
    return [
        {
            "custodian": each.instance,
            "serves": age < settings.epoch_seconds,
            "epoch": each.epoch,
            "seconds_ago": round(age, 1),
            "keys": each.report["keys"],
            "silent_vaults": each.report["silent"],
        }
        for each, age in zip(found, ages, strict=True)
    ]


async def work(reader: Reader, now: datetime) -> list[dict[str, Any]]:
    """Describe unfinished jobs, the oldest first, and no more than fit into a screen that somebody reads."""
    oldest = select(jobs).order_by(jobs.c.created_at, jobs.c.id).limit(MOST_JOBS).subquery()
    query = select(oldest, containers.c.name, tenants.c.name.label("tenant"))
    query = query.join(containers, containers.c.id == oldest.c.container_id, isouter=True)
    query = query.join(tenants, tenants.c.id == oldest.c.tenant_id, isouter=True)
    return [_job(row, now) for row in await reader.rows(query.order_by(oldest.c.created_at, oldest.c.id))]


def _job(row: Row[Any], now: datetime) -> dict[str, Any]:
    """Describe a job; the rate is what it did since it began, the time left what that makes of the rest."""
    seconds = max((now - row.created_at).total_seconds(), 0.001)
    rate = row.done / seconds
    left = round((row.total - row.done) / rate) if rate else None
    return {
        "kind": row.kind,
        "tenant": row.tenant,
        "container": row.name,
        "done": row.done,
        "total": row.total,
        "per_second": round(rate, 1),
        "seconds_left": left,
        "ends": None if left is None else moment(now + timedelta(seconds=left)),
        "waits": row.not_before > now,
        "trouble": row.trouble,
    }


async def queues(reader: Reader, now: datetime) -> dict[str, int]:
    """Count what is on its way, or was given up."""
    counted = {
        "outbox": select(func.count()).select_from(outbox),
        "deliveries": select(func.count()).select_from(deliveries),
        "delayed": select(func.count()).select_from(deliveries).where(deliveries.c.not_before > now),
        "dead_letters": select(func.count()).select_from(dead_letters),
        "uploads_under_way": select(func.count()).select_from(object_intents),
        "superseded_objects": select(func.count()).select_from(superseded_objects),
    }
    return {name: int(await reader.scalar(query)) for name, query in counted.items()}
