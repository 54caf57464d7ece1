"""The state of a policy that is purged: what is asked for keeps it from serving, and only what was begun is final.

Every change has a number of its own, as a revocation has, so that each custodian drops the keys (law 8). Whoever makes
one audits it with its number, or a restored database could not be brought back to it.
"""

from schemas.identifiers import PROVIDER, PolicyState
from twinlock.custody.policies import Policy
from twinlock.custody.revocation import revocations
from twinlock.custody.revocation.revocations import Change
from twinlock.errors import TwinlockError
from twinlock.store.unit import Unit

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
    """Put a policy whose purge is only asked for back into the state that it had, or revoked if it was since."""
    policy = await revocations.lock(unit, policy_id)
    if policy.state is not PolicyState.PURGING:
        return None
    return await revocations.move(unit, policy, await revocations.before_purge(unit, policy_id), told=True)


async def settle(unit: Unit, policy_id: str) -> Change:
    """End the purge of a policy, for good."""
    return await revocations.move(unit, await revocations.lock(unit, policy_id), PolicyState.PURGED, told=True)
