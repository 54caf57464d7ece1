"""Handle a requested refresh: the policy key under the newest versions of its root keys, or a new policy key."""

from dataclasses import dataclass

from sqlalchemy import insert, select, update

from events.answers import answer
from events.handler import Received
from schemas.event import Event
from schemas.facts import PolicyRefreshed
from schemas.identifiers import RequestOutcome, Slot, Workload
from schemas.names import DEP_ASSIGNER
from schemas.requests import RefreshRequested
from twinlock.custody.errors import KeyRefused
from twinlock.custody.lifecycle.naming import made_by
from twinlock.custody.policies import Policy, find_policy
from twinlock.custody.port import Asker, Custodian, MadePolicyKey, PolicyKeyOrder, RequestRef, service
from twinlock.errors import NotFound, TwinlockError
from twinlock.keys.ports import VaultFailure
from twinlock.store.tables.custody import policies, policy_keys, root_key_pins, root_keys
from twinlock.store.unit import Reader, StaleRead, Store, Unit
from workers import jobs, wakeups
from workers.dep_assigner.expansion import ROLL
from workers.dep_assigner.policy_keys import replace_copies, store_policy_key
from workers.jobs import NewJob
from workers.site_reencryptor.orders import order_roll

PURPOSE = "refresh"


@dataclass(frozen=True, slots=True)
class _Plan:
    received: Received
    policy: Policy | None = None
    rewrapped: MadePolicyKey | None = None
    rolled: MadePolicyKey | None = None
    refused: TwinlockError | None = None


class Refresh:
    """Bring a policy onto the newest versions of its root keys, and on request onto a new policy key."""

    consumer = DEP_ASSIGNER
    handles: type[Event] = RefreshRequested

    def __init__(self, store: Store, custodian: Custodian) -> None:
        self._store = store
        self._custodian = custodian

    async def prepare(self, event: RefreshRequested, received: Received) -> _Plan:
        """Have the custodian rewrap the policy key, verified by unwrapping, and make a new one where asked."""
        asker = Asker(service(PURPOSE), received.cause, job=RequestRef(received.asked.source, received.asked.id))
        try:
            async with self._store.read() as reader:
                policy = await find_policy(reader, event.policy)
                await _refuse_unfinished_roll(reader, policy)
                uris = await _root_uris(reader, policy)
            rewrapped = await self._custodian.rewrap_policy_key(policy.id, asker)
            rolled = await self._roll(policy, uris, asker) if event.new_policy_key else None
        except (NotFound, KeyRefused) as refused:
            return _Plan(received, refused=refused)
        except VaultFailure as failure:
            return _Plan(received, refused=TwinlockError(f"{failure.uri}: {failure.outcome}: {failure.detail}"))
        return _Plan(received, policy, rewrapped, rolled)

    async def _roll(self, policy: Policy, uris: tuple[str, str], asker: Asker) -> MadePolicyKey:
        order = PolicyKeyOrder(policy.tenant_id, policy.id, policy.newest_generation + 1, policy.mode, uris)
        return await self._custodian.make_policy_key(order, asker)

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Replace the copies, pin the versions, and order the roll of its containers where the policy key is new."""
        if plan.policy is None or plan.rewrapped is None:
            refused = plan.refused or TwinlockError("the policy can't be refreshed")
            await answer(unit, plan.received.asked, RequestOutcome.REFUSED, {"hint": refused.hint}, refused.detail)
            return
        rolls = plan.rolled is not None
        await _move_on(unit, plan.policy, rolls)
        await replace_copies(unit, plan.policy.id, plan.policy.newest_generation, plan.rewrapped)
        await _pin(unit, plan.policy.id, plan.rewrapped)
        unit.emit(_refreshed(plan.policy, plan.rewrapped, rolls))
        if plan.rolled is None:
            said = {"policy": plan.policy.id}
            await answer(unit, plan.received.asked, RequestOutcome.DONE, said, f"policy {plan.policy} is refreshed")
            return
        await store_policy_key(unit, plan.policy.id, plan.policy.newest_generation + 1, plan.rolled)
        if plan.policy.workload is Workload.SITE:
            await order_roll(unit, plan.policy, plan.received.asked)
            return
        await jobs.put(unit, _roll_job(plan.policy, plan.received))
        await wakeups.wake(unit, DEP_ASSIGNER)


async def _root_uris(reader: Reader, policy: Policy) -> tuple[str, str]:
    key = root_keys.c
    rows = await reader.rows(select(key.uri).where(key.policy_id == policy.id).order_by(key.slot))
    first, second = (row.uri for row in rows)
    return first, second


async def _refuse_unfinished_roll(reader: Reader, policy: Policy) -> None:
    older = select(policy_keys.c.generation).where(
        policy_keys.c.policy_id == policy.id, policy_keys.c.generation < policy.newest_generation
    )
    if await reader.row(older) is not None:
        raise KeyRefused(
            f"policy {policy} is still being rolled onto its newest policy key",
            policy=policy.id,
            hint="wait until it is done: twinlock status",
        )


async def _move_on(unit: Unit, policy: Policy, rolls: bool) -> None:
    """Raise the policy's version: everything remembered about its keys is stale from here on."""
    newest = policy.newest_generation + 1 if rolls else policy.newest_generation
    changed = await unit.execute(
        update(policies)
        .where(policies.c.id == policy.id, policies.c.version == policy.version)
        .values(version=policy.version + 1, newest_generation=newest)
    )
    if not changed.rowcount:
        raise StaleRead


async def _pin(unit: Unit, policy_id: str, made: MadePolicyKey) -> None:
    for slot, root in zip((Slot.A, Slot.B), made.roots, strict=True):
        key = root_keys.c
        await unit.execute(
            update(root_keys).where(key.policy_id == policy_id, key.slot == slot).values(version=root.version)
        )
        pin = root_key_pins.c
        known = select(pin.version).where(pin.policy_id == policy_id, pin.slot == slot, pin.version == root.version)
        if await unit.row(known) is None:
            await unit.execute(
                insert(root_key_pins).values(
                    policy_id=policy_id,
                    slot=slot,
                    version=root.version,
                    fingerprint=root.fingerprint,
                    pinned_at=unit.clock.now(),
                )
            )


def _refreshed(policy: Policy, made: MadePolicyKey, rolls: bool) -> PolicyRefreshed:
    return PolicyRefreshed(
        policy=policy.id,
        version=policy.version + 1,
        tenant=policy.tenant,
        generation=policy.newest_generation + int(rolls),
        key_versions={slot: root.version for slot, root in zip((Slot.A, Slot.B), made.roots, strict=True)},
    )


def _roll_job(policy: Policy, received: Received) -> NewJob:
    asked = received.asked
    return NewJob(
        id=f"{ROLL}:{made_by(asked.source, asked.id)}",
        worker=DEP_ASSIGNER,
        kind=ROLL,
        tenant_id=policy.tenant_id,
        policy_id=policy.id,
        payload=asked.payload(),
    )
