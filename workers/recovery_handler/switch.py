"""Switch a policy to its new root keys: rows alone, in one transaction with everything that follows from it."""

from sqlalchemy import delete, insert, update

from schemas.facts import HealthChanged, PolicyRecovered
from schemas.identifiers import PolicyHealth, PolicyState, Slot, Workload
from schemas.names import DEP_ASSIGNER
from twinlock.custody.decision import ROOT_SLOTS
from twinlock.custody.policies import Policy
from twinlock.custody.port import MadePolicyKey, Recovered
from twinlock.custody.rows import RETIRED, read_policy
from twinlock.keys.ports import Outcome
from twinlock.store.tables.custody import (
    availability_keys,
    evidence,
    policies,
    root_key_looks,
    root_key_pins,
    root_keys,
    verdicts,
)
from twinlock.store.unit import Cause, Unit, new_id
from workers import jobs, wakeups
from workers.dep_assigner.expansion import ROLL
from workers.dep_assigner.policy_keys import replace_copies, store_policy_key
from workers.jobs import NewJob
from workers.site_reencryptor.orders import order_recovery

_PRESENT = "present"


async def switch(unit: Unit, policy: Policy, recovered: Recovered, approval: str) -> None:
    """Put the new root keys, their copies and the next policy key in place, tell it, and order what follows."""
    await _replace_roots(unit, policy.id, recovered.next)
    for generation, made in recovered.live:
        await replace_copies(unit, policy.id, generation, made)
    await store_policy_key(unit, policy.id, policy.newest_generation + 1, recovered.next)
    await _replace_availability_key(unit, policy.id, recovered.next)
    await _move_on(unit, policy)
    after = await read_policy(unit, policy.id)
    _tell(unit, policy, after, recovered.next, approval)
    await _order_roll(unit, after, approval)


async def _replace_roots(unit: Unit, policy_id: str, made: MadePolicyKey) -> None:
    """Put new root keys in the place of the old ones; what the old ones answered says nothing about them (law 4)."""
    for table in (verdicts, evidence, root_key_pins):
        await unit.execute(delete(table).where(table.c.policy_id == policy_id))
    for slot, root in zip(ROOT_SLOTS, made.roots, strict=True):
        key, here = root_keys.c, {"policy_id": policy_id, "slot": slot}
        values = {"uri": root.uri, "identity": root.identity, "version": root.version}
        await unit.execute(update(root_keys).where(key.policy_id == policy_id, key.slot == slot).values(values))
        pin = {"version": root.version, "fingerprint": root.fingerprint, "pinned_at": unit.clock.now()}
        await unit.execute(insert(root_key_pins).values({**here, **pin}))
    # What was noticed of an old key, such as that it expires, is over at the next look, which is due now.
    look = root_key_looks.c
    await unit.execute(update(root_key_looks).where(look.policy_id == policy_id).values(version=""))


async def _replace_availability_key(unit: Unit, policy_id: str, made: MadePolicyKey) -> None:
    """Retire the old one, which still opens what it wrapped, and begin with the fresh one."""
    key, fresh = availability_keys.c, dict(made.copies)[Slot.AVAILABILITY].uri
    present = update(availability_keys).where(key.policy_id == policy_id, key.state == _PRESENT)
    await unit.execute(present.values(state=RETIRED))
    await unit.execute(insert(availability_keys).values(policy_id=policy_id, uri=fresh, state=_PRESENT))


async def _move_on(unit: Unit, policy: Policy) -> None:
    """Raise the policy's version: everything remembered about its keys is stale from here on."""
    values = {
        "version": policy.version + 1,
        "newest_generation": policy.newest_generation + 1,
        "health": PolicyHealth.HEALTHY.value,
    }
    await unit.execute(update(policies).where(policies.c.id == policy.id).values(values))


def _tell(unit: Unit, before: Policy, after: Policy, made: MadePolicyKey, approval: str) -> None:
    about = {"policy": after.id, "version": after.version, "tenant": after.tenant}
    if before.health is not after.health:
        slots = dict.fromkeys((slot.value for slot in ROOT_SLOTS), Outcome.OK.value)
        unit.emit(HealthChanged(**about, health=after.health, was=before.health, slots=slots))
    keys = (made.roots[0].uri, made.roots[1].uri)
    unit.emit(PolicyRecovered(**about, approval=approval, generation=after.newest_generation, keys=keys))


async def _order_roll(unit: Unit, policy: Policy, approval: str) -> None:
    """Bring everything under the new policy key, as a refresh does; of a revoked policy once that is lifted."""
    if policy.state is not PolicyState.ACTIVE:
        unit.cause = Cause(new_id())  # nobody may have to wait for what can't be done yet
    if policy.workload is Workload.SITE:
        await order_recovery(unit, policy, approval)
        return
    await jobs.put(
        unit,
        NewJob(
            id=f"{ROLL}:{approval}",
            worker=DEP_ASSIGNER,
            kind=ROLL,
            tenant_id=policy.tenant_id,
            policy_id=policy.id,
            payload={"approval": approval},
        ),
    )
    await wakeups.wake(unit, DEP_ASSIGNER)
