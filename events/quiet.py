"""What is still under way for a correlation: a command that waits is done when nothing is."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Exists, ScalarSelect, Table, and_, exists, func, or_, select

from twinlock.store.tables.bus import dead_letters, deliveries, outbox
from twinlock.store.tables.work import jobs, requests
from twinlock.store.unit import Reader

OUTSIDE = "webhook:"  # begins the name of a consumer that is no worker
_TAKEN_UP = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Pending:
    """Count what is left; `delayed` are those of the deliveries and jobs whose time has not come yet.

    Dead letters are reported and not waited for: nothing happens to them by itself. `requests` are those without an
    outcome that were not given up: one that travels on a broker is in no table but that of its record.
    """

    outbox: int
    deliveries: int
    jobs: int
    delayed: int
    dead_letters: int
    requests: int

    @property
    def quiet(self) -> bool:
        """Tell whether everything that the correlation set off has been handled."""
        return self.outbox + self.deliveries + self.jobs + self.requests == 0


async def pending(reader: Reader, correlation: str, now: datetime) -> Pending:
    """Count everything of one correlation in one consistent view."""
    counts = select(
        _count(outbox, correlation).label("outbox"),
        _count(deliveries, correlation, _waited_for(now)).label("deliveries"),
        _count(jobs, correlation).label("jobs"),
        _count(deliveries, correlation, _waited_for(now), deliveries.c.not_before > now).label("delayed_deliveries"),
        _count(jobs, correlation, jobs.c.not_before > now).label("delayed_jobs"),
        _count(dead_letters, correlation).label("dead_letters"),
        _count(requests, correlation, requests.c.outcome.is_(None), ~_given_up()).label("requests"),
    )
    (row,) = await reader.rows(counts)
    delayed = row.delayed_deliveries + row.delayed_jobs
    return Pending(row.outbox, row.deliveries, row.jobs, delayed, row.dead_letters, row.requests)


def _waited_for(now: datetime) -> ColumnElement[bool]:
    """Wait for a subscriber outside until its delivery is taken up, and not for long: nobody may be there to do so."""
    row = deliveries.c
    untried = and_(row.attempts == 0, row.not_before <= now, row.not_before > now - _TAKEN_UP)
    return or_(~row.consumer.startswith(OUTSIDE, autoescape=True), untried)


def _given_up() -> Exists:
    return exists().where(dead_letters.c.source == requests.c.source, dead_letters.c.id == requests.c.id)


def _count(table: Table, correlation: str, *conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    matching = and_(table.c.correlation == correlation, *conditions)
    return select(func.count()).select_from(table).where(matching).scalar_subquery()
