"""Containers onto another policy key: a new key generation of each, and all its older ones rewrapped.

The custodian is asked with no transaction open; the switch is one short transaction, which protects each at
once. Leaving a policy needs its root key now (law 6).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from schemas.identifiers import PolicyState
from twinlock.content.containers import Container
from twinlock.content.generations import Switch
from twinlock.custody.errors import KeyRefused
from twinlock.custody.policies import Policy, load_policy
from twinlock.custody.port import Asker, Custodian, WrappedContainerKey
from twinlock.errors import NotFound
from twinlock.keys.errors import DecryptionError
from twinlock.store.tables.custody import policies
from twinlock.store.unit import Reader, StaleRead, Unit
from workers.jobs import Job

DAMAGED = "its key does not decrypt; bring its row back from a backup"


@dataclass(slots=True)
class Prepared:
    """Hold containers that are ready to be switched, and by name why others are not."""

    switches: list[Switch] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """Hold what one step does: containers to switch, those that stay, those that are rejected with their reasons."""

    policy: Policy
    cursor: str
    ended: bool
    switches: list[Switch] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)


async def target_of(reader: Reader, job: Job) -> Policy:
    """Return the policy that a job brings containers under."""
    policy = await load_policy(reader, job.policy_id or "")
    if policy is None:
        raise NotFound("the policy of a job is gone")
    return policy


async def prepare(
    custodian: Custodian, found: Sequence[Container], policy: Policy, asker: Asker, *, rejects: bool
) -> Prepared:
    """Have keys rewrapped and made; refused ones are rejected, or raised where nobody waits for a list of them."""
    prepared = Prepared()
    by_source: dict[str, list[Container]] = {}
    for container in found:
        by_source.setdefault(container.policy_id, []).append(container)
    for group in by_source.values():
        try:
            await _prepare(custodian, group, policy, asker, prepared)
        except KeyRefused as refused:
            if not rejects:
                raise
            reason = f"{refused.detail}; {refused.hint}" if refused.hint else refused.detail
            prepared.rejected.update((container.name, reason) for container in group)
    return prepared


async def _prepare(
    custodian: Custodian, group: Sequence[Container], policy: Policy, asker: Asker, prepared: Prepared
) -> None:
    """Prepare containers that leave one policy together: its root keys are asked once for all of them.

    A key that was damaged or moved holds up its own container alone, which halving finds in a few calls.
    """
    try:
        prepared.switches += await _switches(custodian, group, policy, asker)
    except DecryptionError:
        if len(group) == 1:
            prepared.rejected[group[0].name] = DAMAGED
            return
        half = len(group) // 2
        for part in (group[:half], group[half:]):
            await _prepare(custodian, part, policy, asker, prepared)


async def _switches(custodian: Custodian, group: Sequence[Container], policy: Policy, asker: Asker) -> list[Switch]:
    old = [seen.ref(number) for seen in group for number in sorted(seen.live)]
    rewrapped = await custodian.rewrap_containers(old, policy.id, asker)
    fresh = [seen.ref(seen.newest.number + 1) for seen in group]
    made = await custodian.make_container_keys(fresh, policy.id, asker)
    owned: dict[str, list[WrappedContainerKey]] = {}
    for key in rewrapped:
        owned.setdefault(key.ref.container_id, []).append(key)
    return [Switch(seen, newest, tuple(owned[seen.id])) for seen, newest in zip(group, made, strict=True)]


async def check_policies(unit: Unit, policy: Policy, switches: Iterable[Switch]) -> None:
    """Raise `StaleRead` where a policy was revoked, or the target rolled, since the keys were wrapped."""
    sources = {key.policy_id for switch in switches for key in switch.seen.generations}
    if not sources:
        return
    ids = {policy.id, *sources}
    active = select(policies).where(policies.c.id.in_(ids), policies.c.state == PolicyState.ACTIVE)
    rows = await unit.rows(active.order_by(policies.c.id).with_for_update(key_share=True))
    newest = {row.id: row.newest_generation for row in rows}
    if newest.keys() != ids or newest[policy.id] != policy.newest_generation:
        raise StaleRead


def is_under(container: Container, policy: Policy) -> bool:
    """Tell whether every live key is wrapped by the policy's newest key already."""
    target = (policy.id, policy.newest_generation)
    return all((key.policy_id, key.policy_key_generation) == target for key in container.generations)
