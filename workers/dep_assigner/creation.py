"""Handle a requested policy: both root keys checked live, then everything stored at once, or nothing."""

import asyncio
from dataclasses import dataclass

from sqlalchemy import insert, select

from events.answers import answer
from events.handler import Received
from schemas.event import Event
from schemas.facts import PolicyCreated
from schemas.identifiers import AvailabilityMode, PolicyHealth, PolicyState, RequestOutcome, Slot
from schemas.names import DEP_ASSIGNER
from schemas.requests import PolicyRequested
from twinlock.custody.lifecycle.naming import made_by
from twinlock.custody.port import Asker, Custodian, MadePolicyKey, PolicyKeyOrder, Probe, RequestRef, service
from twinlock.keys.ports import VaultFailure
from twinlock.store.tables.custody import availability_keys, policies, root_key_pins, root_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import StaleRead, Store, Unit
from workers.dep_assigner.checks import FailedCheck, Limits, check_key, check_pair, check_standing
from workers.dep_assigner.policy_keys import store_policy_key
from workers.settings import WorkerSettings

PURPOSE = "create-policy"
LOSES_DATA = "mode none has no availability key: losing both root keys loses the data for good"


@dataclass(frozen=True, slots=True)
class _Plan:
    wanted: PolicyRequested
    received: Received
    order: PolicyKeyOrder | None = None
    made: MadePolicyKey | None = None
    failed: tuple[FailedCheck, ...] = ()


class CreatePolicy:
    """Make a policy; the answer lists every check that failed."""

    consumer = DEP_ASSIGNER
    handles: type[Event] = PolicyRequested

    def __init__(self, store: Store, custodian: Custodian, settings: WorkerSettings) -> None:
        self._store = store
        self._custodian = custodian
        self._limits = Limits(settings.policies_per_tenant, settings.policies_per_geo)

    async def prepare(self, event: PolicyRequested, received: Received) -> _Plan:
        """Make every check, and where none failed have the policy key made."""
        asker = Asker(service(PURPOSE), received.cause, job=RequestRef(received.asked.source, received.asked.id))
        async with self._store.read() as reader:
            standing = await check_standing(reader, event, self._limits)
        failed = [*standing.failed, *check_pair(event.keys)]
        for probe in await self._probe(event, asker):
            failed += check_key(probe)
        if failed or standing.tenant_id is None:
            return _Plan(event, received, failed=tuple(failed))
        order = PolicyKeyOrder(
            standing.tenant_id, made_by(received.asked.source, received.asked.id), 1, event.mode, event.keys
        )
        try:
            return _Plan(event, received, order, await self._custodian.make_policy_key(order, asker))
        except VaultFailure as failure:
            refused = FailedCheck("policy-key", failure.uri, f"{failure.outcome}: {failure.detail}")
            return _Plan(event, received, failed=(refused,))

    async def _probe(self, event: PolicyRequested, asker: Asker) -> list[Probe]:
        try:
            async with asyncio.TaskGroup() as group:
                probes = [group.create_task(self._custodian.probe(uri, asker)) for uri in dict.fromkeys(event.keys)]
        except ExceptionGroup as failed:
            # Whoever is told why it is tried again is told of a silent custodian, not of a group.
            raise failed.exceptions[0] from failed
        return [probe.result() for probe in probes]

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Store the policy with its keys, or the reasons against it."""
        if plan.order is None or plan.made is None:
            await _refuse(unit, plan)
            return
        # One policy of a tenant at a time: two that count at once would both find room below the limit.
        await unit.row(select(tenants.c.id).where(tenants.c.name == plan.wanted.tenant).with_for_update(key_share=True))
        standing = await check_standing(unit, plan.wanted, self._limits)
        if standing.failed or standing.tenant_id != plan.order.tenant_id:
            raise StaleRead
        await _store(unit, plan.wanted, plan.order, plan.made)
        unit.emit(_created(plan.wanted, plan.order.policy_id))
        warnings = [LOSES_DATA] if plan.wanted.mode is AvailabilityMode.NONE else []
        said = {"policy": plan.order.policy_id, "warnings": warnings}
        await answer(unit, plan.received.asked, RequestOutcome.DONE, said, f"policy {plan.wanted.subject} was made")


async def _refuse(unit: Unit, plan: _Plan) -> None:
    said = {"failed": [check.document() for check in plan.failed]}
    detail = "; ".join(str(check) for check in plan.failed)[:1000]
    await answer(unit, plan.received.asked, RequestOutcome.REFUSED, said, detail)


async def _store(unit: Unit, wanted: PolicyRequested, order: PolicyKeyOrder, made: MadePolicyKey) -> None:
    await unit.execute(
        insert(policies).values(
            id=order.policy_id,
            tenant_id=order.tenant_id,
            name=wanted.name,
            workload=wanted.workload,
            geo=wanted.geo,
            mode=wanted.mode,
            state=PolicyState.ACTIVE,
            health=PolicyHealth.HEALTHY,
            newest_generation=order.generation,
            version=1,
            created_at=unit.clock.now(),
        )
    )
    await _store_roots(unit, order.policy_id, made)
    await store_policy_key(unit, order.policy_id, order.generation, made)
    availability = [key.uri for slot, key in made.copies if slot is Slot.AVAILABILITY]
    for uri in availability:
        await unit.execute(insert(availability_keys).values(policy_id=order.policy_id, uri=uri, state="present"))


async def _store_roots(unit: Unit, policy: str, made: MadePolicyKey) -> None:
    for slot, root in zip((Slot.A, Slot.B), made.roots, strict=True):
        key = {"policy_id": policy, "slot": slot}
        await unit.execute(insert(root_keys).values(**key, uri=root.uri, identity=root.identity, version=root.version))
        await unit.execute(
            insert(root_key_pins).values(
                **key, version=root.version, fingerprint=root.fingerprint, pinned_at=unit.clock.now()
            )
        )


def _created(wanted: PolicyRequested, policy: str) -> PolicyCreated:
    return PolicyCreated(
        policy=policy,
        version=1,
        tenant=wanted.tenant,
        name=wanted.name,
        workload=wanted.workload,
        mode=wanted.mode,
        keys=wanted.keys,
        geo=wanted.geo,
    )
