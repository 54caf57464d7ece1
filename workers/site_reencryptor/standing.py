"""How far a tenant's geos are: the sites of each, and how many of them are under its newest TIK."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, case, exists, func, or_, select

from schemas.identifiers import GeoState
from twinlock.store.tables.content import container_keys
from twinlock.store.tables.content import containers as sites
from twinlock.store.tables.custody import policies
from twinlock.store.tables.work import geos, jobs
from twinlock.store.unit import Reader

# The first of these that any geo is in is the state of the tenant.
_WORST = (
    GeoState.RECOVERING,
    GeoState.ROLLING,
    GeoState.REGISTERING,
    GeoState.UNREGISTERED,
    GeoState.REGISTERED,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Say how far sites are; `seconds_left` is None where nothing is under way, or no rate is known yet."""

    state: GeoState
    sites: int
    sites_done: int
    seconds_left: int | None = None
    trouble: str = ""

    @property
    def percent(self) -> float:
        """Return how much is done, rounded down; a registered geo without sites is done."""
        if not self.sites:
            return 100.0 if self.state is GeoState.REGISTERED else 0.0
        return int(1000 * self.sites_done / self.sites) / 10


@dataclass(frozen=True, slots=True)
class GeoStanding(Standing):
    """Say how far the sites of one geo are, on the way to which policy."""

    geo: str = ""
    policy: str | None = None


async def standings(reader: Reader, tenant_id: str, now: datetime) -> list[GeoStanding]:
    """Return every geo that has sites or a policy, by name, from one consistent view."""
    counted = {row.geo: row for row in await reader.rows(_counts(tenant_id))}
    known = {row.geo: row for row in await reader.rows(select(geos).where(geos.c.tenant_id == tenant_id))}
    work = await _jobs(reader, tenant_id)
    return [_standing(geo, counted.get(geo), known.get(geo), work, now) for geo in sorted(counted.keys() | known)]


def overall(found: Sequence[Standing]) -> Standing:
    """Return how far all geos of a tenant are together."""
    states = {each.state for each in found} or {GeoState.UNREGISTERED}
    left = [each.seconds_left for each in found if each.seconds_left is not None]
    return Standing(
        next(state for state in _WORST if state in states),
        sum(each.sites for each in found),
        sum(each.sites_done for each in found),
        max(left, default=None),
        next((each.trouble for each in found if each.trouble), ""),
    )


def _counts(tenant_id: str) -> Any:
    """Count sites by geo, and those whose every key is under the newest generation of their geo's policy."""
    key = container_keys.c
    elsewhere = or_(key.policy_id != geos.c.policy_id, key.policy_key_generation != policies.c.newest_generation)
    behind = or_(
        geos.c.policy_id.is_(None), exists(select(key.container_id).where(key.container_id == sites.c.id, elsewhere))
    )
    return (
        select(sites.c.geo, func.count().label("sites"), func.sum(case((behind, 0), else_=1)).label("done"))
        .select_from(sites)
        .outerjoin(geos, and_(geos.c.tenant_id == sites.c.tenant_id, geos.c.geo == sites.c.geo))
        .outerjoin(policies, policies.c.id == geos.c.policy_id)
        .where(sites.c.tenant_id == tenant_id, sites.c.geo.is_not(None))
        .group_by(sites.c.geo)
    )


async def _jobs(reader: Reader, tenant_id: str) -> Mapping[str, Row[Any]]:
    """Return the jobs of rollouts by what they are about: a geo's name, or a policy's id."""
    rows = await reader.rows(select(jobs).where(jobs.c.tenant_id == tenant_id, jobs.c.kind.in_(("assign", "roll"))))
    return {row.payload.get("geo", row.policy_id): row for row in rows}


def _standing(
    geo: str, counted: Row[Any] | None, row: Row[Any] | None, work: Mapping[str, Row[Any]], now: datetime
) -> GeoStanding:
    state = GeoState.UNREGISTERED if row is None else GeoState(row.state)
    whole, done = (0, 0) if counted is None else (counted.sites, int(counted.done))
    job = work.get(geo) or (work.get(row.policy_id) if row is not None else None)
    return GeoStanding(
        state,
        whole,
        done,
        None if job is None or row is None else _left(job, (now - row.since).total_seconds()),
        "" if job is None else job.trouble,
        geo,
        None if row is None else row.policy_id,
    )


def _left(job: Row[Any], seconds: float) -> int | None:
    if not job.done or seconds <= 0:
        return None
    left = max(0, job.total - job.done)
    return int(left * seconds / job.done)
