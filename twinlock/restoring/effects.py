"""What entries of the audit log did to other tables, done again where a restored database has forgotten it.

Only what must not be undone by a restore: revocations and their lifting, what approvals came to, changes of approvers,
purges, and keys of workers that were retired. Each is done at most once, and a second time changes nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from schemas.identifiers import ApprovalState, PolicyState
from twinlock.approvals.approvers import add_link, read_approvers
from twinlock.approvals.chain import BrokenChain, Change, Link, Signature
from twinlock.custody import revocations
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.purging.resuming import can_resume, resume
from twinlock.store.tables.approvals import approvals
from twinlock.store.tables.custody import (
    audit_entries,
    availability_keys,
    enrolled_workers,
    policies,
    policy_key_copies,
)
from twinlock.store.tables.custody import revocations as revocation_rows
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader, Unit

DONE, KNOWN = "", "it is known already"
_GONE = "what it is about is not in this database"
_PURGE_AGAIN = "what two approvers signed of it is not in this database: the policy is revoked, purge it again"

Replay = Callable[[Unit, Any], Awaitable[str]]  # returns why an entry could not be replayed, or DONE


@dataclass(frozen=True, slots=True)
class Unreplayed:
    """Name an entry that could not be replayed, and why."""

    kind: str
    writer: str
    sequence: int
    why: str


async def replay(unit: Unit, entry: Any) -> Unreplayed | bool:
    """Do again what an entry tells of; return whether that changed anything, or what stands in the way."""
    work = REPLAYS.get(entry.kind)
    if work is None:
        return False
    why = await work(unit, entry)
    if why in (DONE, KNOWN):
        return why == DONE
    return Unreplayed(entry.kind, entry.writer, entry.sequence, why)


async def _set_state(unit: Unit, entry: Any, state: PolicyState, number: int | None = None) -> str:
    row = policies.c
    found = await unit.row(select(row.state, row.version).where(row.id == entry.policy_id).with_for_update())
    if found is None:
        return _GONE
    taken = await unit.row(select(revocation_rows).where(revocation_rows.c.number == number))
    if taken is not None and (taken.policy_id, taken.state) == (entry.policy_id, state):
        return KNOWN
    if number is None or taken is not None:  # somebody has revoked something else by this number since the restore
        number = await revocations.newest(unit) + 1
    values = {"number": number, "policy_id": entry.policy_id, "state": state.value, "at": entry.at}
    await unit.execute(insert(revocation_rows).values(**values, publisher=entry.writer, announced=True))
    moved = {"state": state.value, "version": found.version + 1}
    await unit.execute(update(policies).where(row.id == entry.policy_id).values(moved))
    return DONE


async def _revoked(unit: Unit, entry: Any) -> str:
    return await _set_state(unit, entry, PolicyState.REVOKED, entry.detail["number"])


async def _restored(unit: Unit, entry: Any) -> str:
    return await _set_state(unit, entry, PolicyState.ACTIVE, entry.detail["number"])


async def _purge_begun(unit: Unit, entry: Any) -> str:
    """Have the purge go on, copies gone, where its request came back as well; else nobody is served until another."""
    request, told = entry.detail["request"], entry.detail["availability_keys"]
    if await can_resume(unit, request):
        why = await _set_state(unit, entry, PolicyState.PURGING)
        if why == DONE:
            await resume(unit, request, entry.at, told)
        return why
    if await _is_certified(unit, entry):
        return KNOWN  # a later entry ends it
    return await _set_state(unit, entry, PolicyState.REVOKED) or _PURGE_AGAIN


async def _is_certified(reader: Reader, entry: Any) -> bool:
    row = audit_entries.c
    ended = (row.kind == "purge-certified", row.policy_id == entry.policy_id)
    return bool(await reader.scalar(select(func.count()).select_from(audit_entries).where(*ended)))


async def _purge_given_up(unit: Unit, entry: Any) -> str:
    return await _set_state(unit, entry, PolicyState(entry.detail["state"]), entry.detail["number"])


async def _purged(unit: Unit, entry: Any) -> str:
    """Forget every copy of its keys once more: with them nothing under the policy could ever be opened again."""
    why = await _set_state(unit, entry, PolicyState.PURGED)
    if why == DONE:
        copies, kept = policy_key_copies.c, availability_keys.c
        await unit.execute(delete(policy_key_copies).where(copies.policy_id == entry.policy_id))
        gone = {"state": AvailabilityKeyState.DESTROYED.value}
        await unit.execute(update(availability_keys).where(kept.policy_id == entry.policy_id).values(gone))
    return why


async def _key_destroyed(unit: Unit, entry: Any) -> str:
    key = availability_keys.c
    mine = update(availability_keys).where(key.policy_id == entry.policy_id, key.uri == entry.detail["uri"])
    gone = {"state": AvailabilityKeyState.DESTROYED.value}
    return DONE if (await unit.execute(mine.values(gone))).rowcount else KNOWN


async def _recovered(_unit: Unit, _entry: Any) -> str:
    return "its keys of before the recovery are back, and those of after it are not in the log: recover it again"


async def _settle_approval(unit: Unit, entry: Any, state: ApprovalState) -> str:
    row = approvals.c
    undecided = (ApprovalState.OPEN.value, ApprovalState.APPROVED.value)
    mine = update(approvals).where(row.id == entry.detail["request"], row.state.in_(undecided))
    if (await unit.execute(mine.values(state=state.value, version=row.version + 1))).rowcount:
        return DONE
    return KNOWN  # settled already, or asked for after the backup: then nobody can use it


async def _approval_done(unit: Unit, entry: Any) -> str:
    return await _settle_approval(unit, entry, ApprovalState.DONE)


async def _approval_cancelled(unit: Unit, entry: Any) -> str:
    return await _settle_approval(unit, entry, ApprovalState.CANCELLED)


async def _approver_changed(unit: Unit, entry: Any) -> str:
    if await unit.row(select(tenants.c.id).where(tenants.c.id == entry.tenant_id)) is None:
        return _GONE
    known = await read_approvers(unit, entry.tenant_id)
    if entry.detail["number"] <= known.number:
        return KNOWN
    try:
        after = known.follow(link := _link(entry))
    except (BrokenChain, KeyError, ValueError) as broken:
        return f"the change of approvers does not fit: {broken}"
    if after.head.hex() != entry.detail["hash"]:
        return "the change of approvers is not the one that was made"
    await add_link(unit, known, link)
    return DONE


def _link(entry: Any) -> Link:
    said = entry.detail
    signatures = (each.partition(":") for each in said["signatures"])
    return Link(
        number=said["number"],
        change=Change.ADD if entry.kind == "approver-added" else Change.REMOVE,
        name=said["name"],
        public_key=bytes.fromhex(said["public_key"]),
        at=datetime.fromisoformat(said["at"]),
        counts_from=datetime.fromisoformat(said["counts_from"]),
        statement=bytes.fromhex(said["statement"]),
        signatures=tuple(Signature(signer, bytes.fromhex(signature)) for signer, _, signature in signatures),
    )


async def _key_retired(unit: Unit, entry: Any) -> str:
    row = enrolled_workers.c
    mine = update(enrolled_workers).where(row.fingerprint == entry.detail["fingerprint"], row.retired_at.is_(None))
    return DONE if (await unit.execute(mine.values(retired_at=entry.at))).rowcount else KNOWN


REPLAYS: Mapping[str, Replay] = MappingProxyType(
    {
        "policy-revoked": _revoked,
        "policy-restored": _restored,
        "purge-begun": _purge_begun,
        "purge-given-up": _purge_given_up,
        "purge-certified": _purged,
        "availability-key-destroyed": _key_destroyed,
        "policy-key-recovered": _recovered,
        "approval-done": _approval_done,
        "approval-cancelled": _approval_cancelled,
        "approver-added": _approver_changed,
        "approver-removed": _approver_changed,
        "worker-key-retired": _key_retired,
    }
)
