"""What entries of the audit log did to other tables, done again where a restored database has forgotten it.

Only what must not be undone by a restore, beside the states of policies: what approvals came to, changes of approvers,
availability keys and rights that are gone, and keys of workers that were retired. A second time changes nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import delete, select, update

from schemas.identifiers import ApprovalState
from twinlock.approvals.approvers import add_link, read_approvers
from twinlock.approvals.chain import BrokenChain, Change, Link, Signature
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.restoring.unreplayed import Unreplayed
from twinlock.store.tables.approvals import approvals
from twinlock.store.tables.custody import availability_keys, enrolled_workers
from twinlock.store.tables.publishers import publishers
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Unit

DONE, KNOWN = "", "it is known already"
_GONE = "what it is about is not in this database"

Replay = Callable[[Unit, Any], Awaitable[str]]  # returns why an entry could not be replayed, or DONE


async def replay(unit: Unit, entry: Any) -> Unreplayed | bool:
    """Do again what an entry tells of; return whether that changed anything, or what stands in the way."""
    work = REPLAYS.get(entry.kind)
    if work is None:
        return False
    why = await work(unit, entry)
    if why in (DONE, KNOWN):
        return why == DONE
    return Unreplayed.of(entry, why)


async def _key_destroyed(unit: Unit, entry: Any) -> str:
    # By its URI alone: a removed tenant's keys were destroyed as the provider's own.
    gone = {"state": AvailabilityKeyState.DESTROYED.value}
    key = availability_keys.c
    mine = update(availability_keys).where(key.uri == entry.detail["uri"], key.state != gone["state"])
    return DONE if (await unit.execute(mine.values(gone))).rowcount else KNOWN


async def _recovered(_unit: Unit, _entry: Any) -> str:
    return "its keys of before the recovery are back, and those of after it are not in the log: recover it again"


async def _settle_approval(unit: Unit, request: str, state: ApprovalState, *over: ApprovalState) -> str:
    row = approvals.c
    undecided = (ApprovalState.OPEN.value, ApprovalState.APPROVED.value, *over)
    mine = update(approvals).where(row.id == request, row.state.in_(undecided))
    if (await unit.execute(mine.values(state=state.value, version=row.version + 1))).rowcount:
        return DONE
    return KNOWN  # settled already, or asked for after the backup: then nobody can use it


async def _approval_done(unit: Unit, entry: Any) -> str:
    # What was carried out was so, also where it was too late for it in the restored database, or called off.
    over = (ApprovalState.EXPIRED, ApprovalState.CANCELLED)
    return await _settle_approval(unit, entry.detail["request"], ApprovalState.DONE, *over)


async def _approval_cancelled(unit: Unit, entry: Any) -> str:
    return await _settle_approval(unit, entry.detail["request"], ApprovalState.CANCELLED)


async def _purge_given_up(unit: Unit, entry: Any) -> str:
    """End the request as well: a worker gives up without cancelling it."""
    if "request" not in entry.detail:
        return KNOWN  # as versions wrote it that had another entry for that, or none
    return await _settle_approval(unit, entry.detail["request"], ApprovalState(entry.detail["ended"]))


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


async def _publisher_added(_unit: Unit, entry: Any) -> str:
    return f"publisher {entry.detail['user']} has the rights of before, if any: add it again"


async def _publisher_removed(unit: Unit, entry: Any) -> str:
    gone = await unit.execute(delete(publishers).where(publishers.c.user == entry.detail["user"]))
    return DONE if gone.rowcount else KNOWN


async def _tenant_removed(unit: Unit, entry: Any) -> str:
    if await unit.row(select(tenants.c.id).where(tenants.c.id == entry.tenant_id)) is None:
        return KNOWN
    return f"tenant {entry.detail['tenant']} is back with all that was its own: remove it again"


REPLAYS: Mapping[str, Replay] = MappingProxyType(
    {
        "purge-given-up": _purge_given_up,
        "availability-key-destroyed": _key_destroyed,
        "policy-key-recovered": _recovered,
        "approval-done": _approval_done,
        "approval-cancelled": _approval_cancelled,
        "approver-added": _approver_changed,
        "approver-removed": _approver_changed,
        "worker-key-retired": _key_retired,
        "publisher-added": _publisher_added,
        "publisher-removed": _publisher_removed,
        "tenant-removed": _tenant_removed,
    }
)
