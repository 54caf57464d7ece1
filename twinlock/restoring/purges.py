"""Purges that had begun, or ended, when the database was brought back to an older state: no key of theirs is back."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import update

from schemas.identifiers import PolicyState
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.purging.beginning import destroy_copies
from twinlock.purging.resuming import can_resume, resume, sweep
from twinlock.restoring.unreplayed import Unreplayed
from twinlock.store.tables.custody import availability_keys
from twinlock.store.unit import Unit

_AGAIN = "what two approvers signed of it is not in this database: the policy is revoked, purge it again"


@dataclass(frozen=True, slots=True)
class Carried:
    """Hold the state that a purge leaves its policy in, none where there is no purge, and what came of it."""

    state: PolicyState | None = None
    replayed: int = 0
    unreplayed: tuple[Unreplayed, ...] = ()


async def carry_on(unit: Unit, policy_id: str, begun: Any, certified: Any, keep: timedelta) -> Carried:
    """Do what lost entries of a purge tell of, once more.

    With the request a worker goes on with all of it. Without, an ended purge forgets every copy of the keys, and a
    worker destroys what came back of the content, `keep` later; one that had only begun leaves the policy revoked.
    """
    resumed = begun is not None and await can_resume(unit, begun.detail["request"])
    if resumed:
        await resume(unit, begun.detail["request"], begun.at, begun.detail["availability_keys"])
    if certified is not None:
        await _end(unit, policy_id)
        if not await can_resume(unit, certified.detail["request"]):  # or its own job goes on
            await sweep(unit, certified.tenant_id, policy_id, keep)
        return Carried(PolicyState.PURGED, 1 + resumed)
    if resumed:
        return Carried(PolicyState.PURGING, 1)
    if begun is not None:
        return Carried(PolicyState.REVOKED, unreplayed=(Unreplayed.of(begun, _AGAIN),))
    return Carried()


async def _end(unit: Unit, policy_id: str) -> None:
    """Forget every copy of the keys: nothing under the policy could ever be opened again."""
    await destroy_copies(unit, policy_id)
    gone = {"state": AvailabilityKeyState.DESTROYED.value}
    await unit.execute(update(availability_keys).where(availability_keys.c.policy_id == policy_id).values(gone))
