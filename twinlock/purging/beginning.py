"""The first destruction: every wrapped copy of the policy key, in the one change after which nobody can cancel."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import delete, select

from schemas.identifiers import ApprovalState, PolicyState, Slot
from twinlock.approvals.requests import Checked
from twinlock.approvals.rows import set_state
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.custody.health.verdicts import read_standing
from twinlock.custody.policies import Policy
from twinlock.custody.revocation import revocations
from twinlock.keys.ports import Outcome
from twinlock.purging.rows import Look, Moment, Purge, Stage, looked
from twinlock.store.tables.custody import availability_keys, policy_key_copies, policy_keys
from twinlock.store.tables.work import geos
from twinlock.store.unit import Reader, StaleRead, Unit


async def begin(unit: Unit, checked: Checked, purge: Purge, look: Look, audit: AuditLog) -> None:
    """Destroy the wrapped copies, once everything was checked again; `StaleRead` where a root key answered meanwhile.

    The tenant is locked, as whoever cancels locks it: either this finds the request cancelled, or that finds it done.
    """
    policy = await revocations.lock(unit, purge.policy_id)
    standing = await read_standing(unit, policy.id)
    if policy.state is not PolicyState.PURGING or standing.outcomes != (Outcome.DENIED, Outcome.DENIED):
        raise StaleRead
    keys = await gather(unit, policy)
    await destroy_copies(unit, policy.id)
    await set_state(unit, checked.approval, ApprovalState.DONE)
    await looked(unit, purge, Moment.BEGUN, look, Stage.CONTENT, keys=keys, begun_at=unit.clock.now())
    await audit.append(unit, *_entries(unit, checked, policy, keys))


async def destroy_copies(unit: Unit, policy_id: str) -> None:
    """Delete every wrapped copy of a policy's keys, and free the geo that it was for."""
    await unit.execute(delete(policy_key_copies).where(policy_key_copies.c.policy_id == policy_id))
    await unit.execute(delete(geos).where(geos.c.policy_id == policy_id))


async def gather(reader: Reader, policy: Policy, also: Sequence[str] = ()) -> dict[str, Any]:
    """Return what there is of keys: every generation with its commitment and copies, and every availability key.

    `also` names availability keys of which the database may know nothing.
    """
    generation, copy, key = policy_keys.c, policy_key_copies.c, availability_keys.c
    generations = select(policy_keys).where(generation.policy_id == policy.id).order_by(generation.generation)
    copies = await reader.rows(select(policy_key_copies).where(copy.policy_id == policy.id).order_by(copy.slot))
    known = await reader.rows(select(key.uri).where(key.policy_id == policy.id))
    uris = {*also} | {row.uri for row in known} | {row.uri for row in copies if row.slot == Slot.AVAILABILITY.value}
    return {
        "policy_keys": [
            {
                "generation": row.generation,
                "commitment": row.commitment.hex(),
                "copies": [
                    {"slot": each.slot, "uri": each.uri, "sha256": sha256(each.ciphertext).hexdigest()}
                    for each in copies
                    if each.generation == row.generation
                ],
            }
            for row in await reader.rows(generations)
        ],
        "availability_keys": [
            {"uri": uri, "state": AvailabilityKeyState.PRESENT.value, "final_at": None} for uri in sorted(uris)
        ],
    }


def _entries(unit: Unit, checked: Checked, policy: Policy, keys: dict[str, Any]) -> tuple[AuditEntry, AuditEntry]:
    approval = checked.approval
    shared = {"request": approval.id, "sender": unit.sender}
    signers = [each.name for each in approval.signed]
    done = {**shared, "action": approval.action, "approvers": signers}
    begun = {
        **shared,
        "policy_keys": [f"{each['generation']}/{each['commitment']}" for each in keys["policy_keys"]],
        "availability_keys": [each["uri"] for each in keys["availability_keys"]],
    }
    return (
        AuditEntry("approval-done", policy.tenant_id, policy.id, done),
        AuditEntry("purge-begun", policy.tenant_id, policy.id, begun),
    )
