"""A policy as a document: its keys as they stand, what is assigned, and what lies under which key version."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import case, func, select

from cli.output import Table, fields
from schemas.identifiers import PROVIDER, Slot
from twinlock.custody.decision import ROOT_SLOTS, AvailabilityKeyState
from twinlock.custody.policies import Policy
from twinlock.custody.verdicts import read_standing
from twinlock.store.tables.content import container_keys, containers
from twinlock.store.tables.custody import availability_keys, policy_keys, root_keys
from twinlock.store.unit import Reader


async def describe(reader: Reader, policy: Policy) -> dict[str, Any]:
    """Return everything about a policy, from one consistent view."""
    return {
        "id": policy.id,
        "name": policy.name,
        "tenant": policy.tenant,
        "workload": policy.workload.value,
        "geo": policy.geo,
        "state": policy.state.value,
        "health": policy.health.value,
        "mode": policy.mode.value,
        "keys": await _keys(reader, policy),
        "availability_key": await _availability(reader, policy),
        "assigned": await reader.scalar(select(func.count()).where(containers.c.policy_id == policy.id)),
        "policy_version": policy.newest_generation,
        "objects_by_key_version": await _objects(reader, policy),
    }


def name_of(document: dict[str, Any]) -> str:
    """Return the name by which people call a policy."""
    return str(document["name"] if document["tenant"] == PROVIDER else f"{document['tenant']}/{document['name']}")


def view(document: Mapping[str, Any]) -> list[Table]:
    """Show a policy to people."""
    shown = {name: value for name, value in document.items() if name not in ("keys", "warnings")}
    if document["geo"] is None:
        del shown["geo"]
    shown["availability_key"] = (document["availability_key"] or {}).get("state", "absent")
    columns = ("slot", "uri", "version", "status")
    return [fields(shown), Table(columns, [[key[name] for name in columns] for key in document["keys"]])]


async def _keys(reader: Reader, policy: Policy) -> list[dict[str, Any]]:
    standing = await read_standing(reader, policy.id)
    rows = await reader.rows(select(root_keys).where(root_keys.c.policy_id == policy.id))
    by_slot = {Slot(row.slot): row for row in rows}
    return [
        {
            "slot": slot.value,
            "uri": by_slot[slot].uri,
            "version": by_slot[slot].version,
            "status": standing.slots[slot].folded.value,
        }
        for slot in ROOT_SLOTS
        if slot in by_slot
    ]


async def _availability(reader: Reader, policy: Policy) -> dict[str, Any] | None:
    key = availability_keys.c
    current = case((key.state == AvailabilityKeyState.PRESENT.value, 0), else_=1)
    row = await reader.row(select(key.uri, key.state).where(key.policy_id == policy.id).order_by(current, key.uri))
    return None if row is None else {"uri": row.uri, "state": row.state}


async def _objects(reader: Reader, policy: Policy) -> dict[str, int]:
    """Count items by the policy key generation that wraps their container key; a live one without items counts zero."""
    container = container_keys.c
    live = await reader.rows(select(policy_keys.c.generation).where(policy_keys.c.policy_id == policy.id))
    counted = await reader.rows(
        select(container.policy_key_generation, func.sum(container.item_count).label("items"))
        .where(container.policy_id == policy.id)
        .group_by(container.policy_key_generation)
    )
    found = {row.generation: 0 for row in live} | {row.policy_key_generation: int(row.items) for row in counted}
    return {str(generation): found[generation] for generation in sorted(found)}
