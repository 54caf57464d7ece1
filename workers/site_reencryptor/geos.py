"""Geos: under which policy a tenant's sites of a geo are, or are on their way to.

Who adds a site locks its tenant's row against `lock_tenant` (`FOR SHARE`) and then reads the geo's: so a site is either
there when a rollout begins, or begins under the geo's policy.
"""

from dataclasses import dataclass

from sqlalchemy import delete, exists, insert, select, update

from schemas.identifiers import GeoState
from twinlock.custody.policies import Policy
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import geos, jobs
from twinlock.store.unit import Reader, Unit


@dataclass(frozen=True, slots=True)
class Geo:
    """Hold the row of a geo."""

    policy_id: str
    state: GeoState


async def lock_tenant(unit: Unit, tenant_id: str) -> None:
    """Wait for every site of the tenant that is being added at this moment, and let no other begin."""
    await unit.row(select(tenants.c.id).where(tenants.c.id == tenant_id).with_for_update(key_share=True))


async def find(reader: Reader, tenant_id: str, geo: str) -> Geo | None:
    """Return a geo, or none before its first registration and after a revert."""
    row = await reader.row(select(geos).where(geos.c.tenant_id == tenant_id, geos.c.geo == geo))
    return None if row is None else Geo(row.policy_id, GeoState(row.state))


async def set_out(unit: Unit, tenant_id: str, geo: str, policy: Policy, was: Geo | None) -> None:
    """Put a geo on its way to a policy."""
    if was is None:
        if not policy.is_service:  # under which sites without a geo's row begin anyhow
            row = {"tenant_id": tenant_id, "geo": geo, "policy_id": policy.id, "version": 1}
            state = GeoState.REGISTERING
            await unit.execute(insert(geos).values(row | {"state": state, "since": unit.clock.now()}))
        return
    state = was.state if was.policy_id == policy.id or was.state is GeoState.REGISTERING else GeoState.ROLLING
    await _set(unit, tenant_id, geo, policy.id, state)


async def arrive(unit: Unit, tenant_id: str, geo: str, policy: Policy) -> None:
    """Note that a geo's sites are under the policy; under the provider's own it is registered no more."""
    if policy.is_service:
        await _forget(unit, tenant_id, geo)
    else:
        await _set(unit, tenant_id, geo, policy.id, GeoState.REGISTERED)


async def go_back(unit: Unit, tenant_id: str, geo: str, was: str | None) -> None:
    """Undo what `set_out` did, where not one site could be brought along."""
    if was is None:
        await _forget(unit, tenant_id, geo)
    else:
        await _set(unit, tenant_id, geo, was, GeoState.REGISTERED)


async def begin_roll(unit: Unit, policy: Policy) -> None:
    """Note that the policy of geos has a new TIK; one that is on its way to it stays so."""
    registered = (geos.c.policy_id == policy.id) & (geos.c.state == GeoState.REGISTERED)
    await unit.execute(update(geos).where(registered).values(_moved(GeoState.ROLLING, unit)))


async def begin_recovery(unit: Unit, policy: Policy) -> None:
    """Note that the policy of geos was recovered and has a new TIK; a first registration stays one."""
    under = (geos.c.policy_id == policy.id) & (geos.c.state != GeoState.REGISTERING)
    await unit.execute(update(geos).where(under).values(_moved(GeoState.RECOVERING, unit)))


async def end_roll(unit: Unit, policy: Policy) -> None:
    """Note that everything is under the new TIK, but for geos that an assignment is still at work on."""
    assigning = exists(select(jobs.c.id).where(jobs.c.id == "assign:" + geos.c.tenant_id + ":" + geos.c.geo))
    rolling = (geos.c.policy_id == policy.id) & geos.c.state.in_((GeoState.ROLLING, GeoState.RECOVERING))
    await unit.execute(update(geos).where(rolling, ~assigning).values(_moved(GeoState.REGISTERED, unit)))


async def _set(unit: Unit, tenant_id: str, geo: str, policy_id: str, state: GeoState) -> None:
    own = (geos.c.tenant_id == tenant_id) & (geos.c.geo == geo)
    await unit.execute(update(geos).where(own).values(policy_id=policy_id, **_moved(state, unit)))


async def _forget(unit: Unit, tenant_id: str, geo: str) -> None:
    await unit.execute(delete(geos).where(geos.c.tenant_id == tenant_id, geos.c.geo == geo))


def _moved(state: GeoState, unit: Unit) -> dict[str, object]:
    return {"state": state, "since": unit.clock.now(), "version": geos.c.version + 1}
