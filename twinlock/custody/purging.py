"""The state of a policy that is purged: what is asked for keeps it from serving, and only what was begun is final.

Every change has a number of its own, as a revocation has, so that each custodian drops the keys (law 8). Whoever makes
one audits it with its number, or a restored database could not be brought back to it.
"""

from sqlalchemy import select

from schemas.identifiers import PROVIDER, PolicyState
from twinlock.custody import revocations
from twinlock.custody.policies import Policy
from twinlock.custody.revocations import Change
from twinlock.errors import TwinlockError
from twinlock.store.tables import custody as tables
from twinlock.store.unit import Reader, Unit

_BEFORE = (PolicyState.ACTIVE, PolicyState.REVOKED)


def refuse(policy: Policy) -> None:
    """Raise a `TwinlockError` where a policy can't be purged, whatever its keys answer."""
    if policy.tenant == PROVIDER:
        raise TwinlockError(
            f"policy {policy} is the provider's own, which nobody purges", hint="name a tenant's policy"
        )
    if policy.state not in _BEFORE:
        raise TwinlockError(f"policy {policy} is {policy.state.value}", hint="see: twinlock approval list")


def may_be(policy: Policy) -> bool:
    """Say whether a policy can be purged, as far as its own state goes."""
    return policy.tenant != PROVIDER and policy.state in _BEFORE


async def set_out(unit: Unit, policy_id: str) -> Change:
    """Keep a policy from serving and from being assigned while its purge is asked for; raise as `refuse` does."""
    policy = await revocations.lock(unit, policy_id)
    refuse(policy)
    return await revocations.move(unit, policy, PolicyState.PURGING, told=True)


async def give_back(unit: Unit, policy_id: str) -> Change | None:
    """Put a policy back into the state that it had, revoked or not, if its purge is still only asked for."""
    policy = await revocations.lock(unit, policy_id)
    if policy.state is not PolicyState.PURGING:
        return None
    return await revocations.move(unit, policy, await _before(unit, policy_id), told=True)


async def settle(unit: Unit, policy_id: str) -> Change:
    """End the purge of a policy, for good."""
    return await revocations.move(unit, await revocations.lock(unit, policy_id), PolicyState.PURGED, told=True)


async def _before(reader: Reader, policy_id: str) -> PolicyState:
    row = tables.revocations.c
    states = [state.value for state in _BEFORE]
    query = select(row.state).where(row.policy_id == policy_id, row.state.in_(states)).order_by(row.number.desc())
    found = await reader.scalar(query.limit(1))
    return PolicyState(found) if found else PolicyState.ACTIVE
