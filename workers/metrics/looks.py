"""What stands at this moment, of which only the database, the broker or a cache can tell.

Every query is bounded: it counts along an index, and stops at `MOST`, so that a page never hurts what it measures.
"""

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any, Protocol

from prometheus_client import Gauge
from sqlalchemy import FromClause, Select, func, select

from twinlock.custody.cache import CacheLine
from twinlock.store.tables.alerts import alerts
from twinlock.store.tables.bus import dead_letters, outbox
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Reader, Store
from workers.metrics.instruments import Metrics
from workers.metrics.page import Look

MOST = 10_000


class Caching(Protocol):
    """Be a custodian that keeps policy keys."""

    def cached(self) -> Iterator[CacheLine]:
        """Name the policy keys in memory."""
        ...


def at_outbox(metrics: Metrics, store: Store) -> Look:
    """Measure what this login has not published yet."""
    login = store.sender
    count = metrics.gauge("outbox_events", f"Events that wait to be published, counted up to {MOST}.", "login")
    age = metrics.gauge("outbox_age_seconds", "Since when the oldest of them waits.", "login")

    async def look() -> None:
        mine = outbox.c.publisher == login
        async with store.read() as reader:
            count.labels(login).set(await _count(reader, select(outbox.c.number).where(mine).order_by(outbox.c.number)))
            oldest = select(outbox.c.created_at).where(mine).order_by(outbox.c.number).limit(1)
            _set_age(age.labels(login), store, await reader.scalar(oldest))

    return look


def at_jobs(metrics: Metrics, store: Store, *workers: str) -> Look:
    """Measure unfinished work of workers."""
    count = metrics.gauge("jobs", f"Unfinished jobs, counted up to {MOST}.", "worker")
    age = metrics.gauge("job_age_seconds", "Since when the oldest of them is unfinished.", "worker")

    async def look() -> None:
        async with store.read() as reader:
            for worker in workers:
                own = select(jobs.c.created_at).where(jobs.c.worker == worker)
                some = own.order_by(jobs.c.not_before).limit(MOST).subquery()
                found = await reader.row(
                    select(func.count().label("number"), func.min(some.c.created_at).label("oldest")).select_from(some)
                )
                count.labels(worker).set(found.number if found else 0)
                _set_age(age.labels(worker), store, found.oldest if found else None)

    return look


def at_alerts(metrics: Metrics, store: Store) -> Look:
    """Measure open alerts."""
    opened = metrics.gauge("alerts_open", "Alerts that are open.", "kind", "severity", "audience")
    row = alerts.c
    query = select(row.kind, row.severity, row.audience, func.count().label("number")).where(row.ongoing.is_not(None))
    query = query.group_by(row.kind, row.severity, row.audience)

    async def look() -> None:
        async with store.read() as reader:
            found = await reader.rows(query)
        opened.clear()
        for each in found:
            opened.labels(each.kind, each.severity, each.audience).set(each.number)

    return look


def at_dead_letters(metrics: Metrics, store: Store) -> Look:
    """Measure what was given up."""
    count = metrics.gauge("dead_letters", f"Dead letters of all workers, counted up to {MOST}.")

    async def look() -> None:
        async with store.read() as reader:
            count.set(await _count(reader, select(dead_letters.c.number).order_by(dead_letters.c.number)))

    return look


def at_cache(metrics: Metrics, store: Store, custodian: Caching) -> Look:
    """Measure the policy keys in memory: how long they are there, and when the first of them is lost."""
    count = metrics.gauge("policy_keys_cached", "Policy keys in memory.", "opened_by")
    age = metrics.gauge("policy_key_age_seconds", "How long the one that was opened first is there.")
    left = metrics.gauge("policy_key_expiry_seconds", "In how long the first of them is lost unless it is renewed.")

    async def look() -> None:
        now, lines = store.clock.monotonic(), list(custodian.cached())
        count.clear()
        for line in lines:
            count.labels(line.opened_by.value).inc()
        age.set(max((now - (line.expires - line.ttl) for line in lines), default=0.0))
        left.set(min((line.expires - now for line in lines), default=float("nan")))

    return look


def at_queue(metrics: Metrics, worker: str, waiting: Callable[[], Awaitable[tuple[int, int]]]) -> Look:
    """Measure what waits for a worker at the broker; `waiting` says how many messages and how many consumers."""
    messages = metrics.gauge("queue_messages", "Messages that wait in a worker's queue.", "worker").labels(worker)
    consumers = metrics.gauge("queue_consumers", "Processes that take from it.", "worker").labels(worker)

    async def look() -> None:
        count, takers = await waiting()
        messages.set(count)
        consumers.set(takers)

    return look


async def _count(reader: Reader, query: Select[Any]) -> int:
    bounded: FromClause = query.limit(MOST).subquery()
    return await reader.scalar(select(func.count()).select_from(bounded)) or 0


def _set_age(gauge: Gauge, store: Store, since: datetime | None) -> None:
    gauge.set(0.0 if since is None else (store.clock.now() - since).total_seconds())
