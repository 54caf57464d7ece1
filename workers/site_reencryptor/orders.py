"""Order a rollout: every site of a geo, or of a policy, onto a TIK that is new to it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from events.handler import Asked
from schemas.identifiers import Workload
from schemas.names import SITE_REENCRYPTOR
from twinlock.custody.lifecycle.naming import made_by
from twinlock.custody.policies import Policy
from twinlock.store.tables.content import containers
from twinlock.store.tables.work import jobs as table
from twinlock.store.tables.work import requests
from twinlock.store.unit import Reader, Unit
from workers import jobs, outcomes, wakeups
from workers.jobs import NewJob
from workers.site_reencryptor import geos

ASSIGN = "assign"
ROLL = "roll"
_REPLACED = "another assignment of this geo took its place"


def job_id(tenant_id: str, geo: str) -> str:
    """Name the one job that brings the sites of a tenant's geo under a policy, whichever that is."""
    return f"{ASSIGN}:{tenant_id}:{geo}"


def list_id(asked: Asked) -> str:
    """Name the list of what became of the sites that a request is about."""
    return f"{ASSIGN}:{made_by(asked.source, asked.id)}"


async def order_assignment(unit: Unit, policy: Policy, tenant_id: str, names: Sequence[str], asked: Asked) -> None:
    """Bring the sites of geos under a policy; a rollout that runs already gets the new target.

    From here on new sites of these geos begin under the policy.
    """
    await geos.lock_tenant(unit, tenant_id)
    replaced: dict[str, Mapping[str, Any]] = {}
    for geo in sorted(names):
        there = await _payload(unit, job_id(tenant_id, geo))
        if there is not None and Asked.of(there) != asked:
            replaced[geo] = there
        was = await geos.find(unit, tenant_id, geo)
        about = {"geo": geo, "geos": list(names), "was": was.policy_id if was else None}
        total = await _count(unit, containers.c.tenant_id == tenant_id, containers.c.geo == geo)
        await jobs.put(
            unit,
            NewJob(
                id=job_id(tenant_id, geo),
                worker=SITE_REENCRYPTOR,
                kind=ASSIGN,
                tenant_id=tenant_id,
                policy_id=policy.id,
                payload={**asked.payload(), **about},
                total=total,
            ),
        )
        await geos.set_out(unit, tenant_id, geo, policy, was)
    for geo, payload in replaced.items():
        await outcomes.note(unit, list_id(Asked.of(payload)), (), {geo: _REPLACED})
        await answer_if_last(unit, tenant_id, payload)
    await wakeups.wake(unit, SITE_REENCRYPTOR)


async def order_roll(unit: Unit, policy: Policy, asked: Asked) -> None:
    """Bring every site under a policy onto its newest TIK."""
    await _roll(unit, policy, made_by(asked.source, asked.id), asked.payload())
    await geos.begin_roll(unit, policy)


async def order_recovery(unit: Unit, policy: Policy, approval: str) -> None:
    """Bring every site under a recovered policy onto its newest TIK, which nobody waits for an answer to."""
    await _roll(unit, policy, approval, {"approval": approval})
    await geos.begin_recovery(unit, policy)


async def _roll(unit: Unit, policy: Policy, name: str, payload: Mapping[str, Any]) -> None:
    await jobs.put(
        unit,
        NewJob(
            id=f"{ROLL}:{name}",
            worker=SITE_REENCRYPTOR,
            kind=ROLL,
            tenant_id=policy.tenant_id,
            policy_id=policy.id,
            payload=payload,
            total=await _count(unit, containers.c.policy_id == policy.id),
        ),
    )
    await wakeups.wake(unit, SITE_REENCRYPTOR)


async def answer_if_last(unit: Unit, tenant_id: str, payload: Mapping[str, Any]) -> None:
    """Answer a request once no geo that it named has a rollout of it left."""
    asked = Asked.of(payload)
    await _lock_request(unit, asked)
    left = [await _payload(unit, job_id(tenant_id, geo), locks=False) for geo in payload["geos"]]
    if not any(other is not None and Asked.of(other) == asked for other in left):
        name = list_id(asked)
        await outcomes.answer_with(unit, asked, name, await outcomes.count(unit, name), "sites")


async def _lock_request(unit: Unit, asked: Asked) -> None:
    # Two geos that end at the same moment would each find the other one at work, and nobody would answer.
    row = requests.c
    await unit.row(select(row.id).where(row.source == asked.source, row.id == asked.id).with_for_update())


async def _payload(unit: Unit, name: str, *, locks: bool = True) -> Mapping[str, Any] | None:
    query = select(table.c.payload).where(table.c.id == name)
    row = await unit.row(query.with_for_update() if locks else query)
    return None if row is None else dict(row.payload)


async def _count(reader: Reader, *conditions: Any) -> int:
    sites = select(func.count()).where(containers.c.workload == Workload.SITE, *conditions)
    return int(await reader.scalar(sites))
