"""A policy as a document: its keys as they stand, what is assigned, and what lies under which key version."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import case, func, select

from cli.output import Table, fields
from schemas.identifiers import PROVIDER, Slot
from twinlock.custody.decision import ROOT_SLOTS, AvailabilityKeyState
from twinlock.custody.health.evidence import Gathered, read_evidence
from twinlock.custody.health.looking import read_expiries
from twinlock.custody.health.verdicts import SlotStanding, read_standing
from twinlock.custody.policies import Policy
from twinlock.custody.settings import EvidenceRules
from twinlock.keys.ports import Outcome
from twinlock.store.tables.content import container_keys, containers
from twinlock.store.tables.custody import availability_keys, policy_keys, root_keys
from twinlock.store.unit import Reader

_FAILING = ("slot", "since", "reason", "answer", "request_id", "classifier", "evidence")


async def describe(reader: Reader, policy: Policy, now: datetime, rules: EvidenceRules) -> dict[str, Any]:
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
        "keys": await _keys(reader, policy, now, rules),
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
    keys = Table(columns, [[key[name] for name in columns] for key in document["keys"]])
    failing = [[_shown(key)[name] for name in _FAILING] for key in document["keys"] if key["status"] != Outcome.OK]
    return [fields(shown), keys, *([Table(_FAILING, failing, title="\nfailing")] if failing else [])]


def _shown(key: Mapping[str, Any]) -> dict[str, Any]:
    found = key["evidence"]
    return {**key, "evidence": f"{found['failures']} of {found['needed']} failures, over {found['over_seconds']:.0f} s"}


async def _keys(reader: Reader, policy: Policy, now: datetime, rules: EvidenceRules) -> list[dict[str, Any]]:
    standing = await read_standing(reader, policy.id)
    found = await read_evidence(reader, policy.id, now, rules)
    expiries = await read_expiries(reader, policy.id)
    rows = await reader.rows(select(root_keys).where(root_keys.c.policy_id == policy.id))
    by_slot = {Slot(row.slot): row for row in rows}
    return [
        {
            "slot": slot.value,
            "uri": by_slot[slot].uri,
            "version": by_slot[slot].version,
            **_standing(standing.slots[slot]),
            "evidence": _evidence(found[slot], rules),
            "expires": _moment(expiries.get(slot)),
        }
        for slot in ROOT_SLOTS
        if slot in by_slot
    ]


def _standing(slot: SlotStanding) -> dict[str, Any]:
    """Describe how a root key stands, since when and why; what its vault said belongs to the verdict that holds."""
    return {
        "status": slot.folded.value,
        "since": _moment(slot.held_since),
        "checked_at": _moment(slot.checked_at),
        "last_outcome": slot.outcome.value,
        "reason": slot.said.detail,
        "answer": slot.said.raw,
        "request_id": slot.said.request_id,
        "classifier": slot.said.classifier,
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _evidence(found: Gathered, rules: EvidenceRules) -> dict[str, Any]:
    """Describe what speaks for an outage (law 5): the availability key takes the same of both root keys."""
    return {
        "failures": found.failures,
        "needed": rules.failures,
        "over_seconds": round(found.over_seconds, 1),
        "needed_seconds": rules.over_seconds,
        "proves_outage": found.proves,
    }


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
