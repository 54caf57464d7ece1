"""The numbers of revocations (law 8) after a restore: every lost change gets its own number back.

What was made since the restore under one of those numbers moves behind all of them, as its entries do in the audit log.
A number of which nothing tells is filled with a row that stands for no policy: the newest number never goes back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update

from schemas.identifiers import PolicyState
from twinlock.approvals.statement import Action
from twinlock.custody.revocation import revocations
from twinlock.store.tables.custody import policies
from twinlock.store.tables.custody import revocations as table
from twinlock.store.unit import Reader, Unit

FILLED_NUMBERS = "filled"  # in the detail of an entry: the numbers that stand for nothing

_row = table.c
_STATES = {
    "approval-requested": PolicyState.PURGING,
    "policy-revoked": PolicyState.REVOKED,
    "policy-restored": PolicyState.ACTIVE,
    "purge-certified": PolicyState.PURGED,
}
_TOLD = ("purge-given-up", "revocation-announced", "revocation-replayed")


@dataclass(frozen=True, slots=True)
class Change:
    """Hold a change of a policy's state as an entry tells of it; one that stands for nothing names no policy."""

    number: int
    policy_id: str
    state: str
    at: datetime
    publisher: str
    entry: Any


@dataclass(frozen=True, slots=True)
class Placed:
    """Hold the lost changes in their order, those that are new here, and what moved where since the restore."""

    changes: Sequence[Change]
    added: Sequence[Change]
    moved: Mapping[int, int]
    since: frozenset[str]  # the policies that somebody has changed since the restore
    first: int  # the lowest number that may be a lost one
    last: int  # the highest number of which anything tells
    unnumbered: int  # how many more were taken by versions that named none of these


def changes_of(entry: Any) -> list[Change]:
    """Return the changes with a number that an entry tells of: of most none, of some one."""
    said = entry.detail
    if _is_filling(entry):
        return [Change(number, "", "", entry.at, entry.writer, entry) for number in said[FILLED_NUMBERS]]
    known = _STATES.get(entry.kind)
    if "number" not in said or (known is None and entry.kind not in _TOLD):
        return []
    state = said["state"] if known is None else known.value
    publisher = said.get("publisher") or said.get("sender") or entry.writer
    return [Change(said["number"], entry.policy_id, state, entry.at, publisher, entry)]


def renumbered(entry: Any, moved: Mapping[int, int]) -> dict[str, Any]:
    """Return the detail of an entry with the numbers that its changes have now."""
    said = dict(entry.detail)
    if _is_filling(entry):
        said[FILLED_NUMBERS] = [moved.get(number, number) for number in said[FILLED_NUMBERS]]
    elif changes_of(entry):
        said["number"] = moved.get(said["number"], said["number"])
    return said


def _is_filling(entry: Any) -> bool:
    return entry.kind in ("restore-checked", "restore-accepted") and FILLED_NUMBERS in entry.detail


async def place(unit: Unit, lost: Iterable[Any], strays: Iterable[Any], epoch: int) -> Placed:
    """Give lost changes their numbers back, and have those that were made since follow behind them."""
    lost, before = tuple(lost), await revocations.newest(unit)
    changes = sorted((each for entry in lost for each in changes_of(entry)), key=lambda each: each.number)
    since = await _since(unit, changes, [each.number for stray in strays for each in changes_of(stray)])
    first = min([before + 1, *since, *(each.number for each in changes[:1])])
    last = max([first - 1, *(each.number for each in changes[-1:])])
    moved = await _move_behind(unit, since, max(epoch, last))
    added = [each for each in changes if await _put(unit, each)]
    unnumbered = await _count_unnumbered(unit, lost)
    return Placed(changes, added, moved, frozenset(since.values()), first, last, unnumbered)


async def _count_unnumbered(reader: Reader, lost: Iterable[Any]) -> int:
    """Count the numbers that older versions took without naming them: for the request and the end of a purge."""
    asked, ended, told = 0, set[str](), set[str]()
    for entry in lost:
        numbered = "number" in entry.detail
        asked += entry.kind == "approval-requested" and entry.detail.get("action") == Action.PURGE and not numbered
        if entry.kind == "purge-certified":
            (told if numbered else ended).add(entry.policy_id)
    purged = select(policies.c.id).where(policies.c.id.in_(ended - told), policies.c.state == PolicyState.PURGED)
    return asked + len(ended - told) - len(await reader.rows(purged))


async def missing(unit: Unit, placed: Placed, epoch: int) -> list[int]:
    """Return the numbers up to the mark's that nothing tells of."""
    rows = await unit.rows(select(_row.number).where(_row.number.between(placed.first, epoch)))
    return sorted({*range(placed.first, epoch + 1)} - {row.number for row in rows})


async def fill(unit: Unit, numbers: Iterable[int]) -> None:
    """Take numbers that stand for nothing, so that nobody takes them again."""
    for number in numbers:
        await _insert(unit, number, "", "", unit.clock.now(), unit.sender)


async def add(unit: Unit, policy_id: str, state: PolicyState) -> int:
    """Take the next number for the state that a policy ends in."""
    number = await revocations.newest(unit) + 1
    await _insert(unit, number, policy_id, state.value, unit.clock.now(), unit.sender)
    return number


async def _since(unit: Unit, changes: Sequence[Change], named: Sequence[int]) -> dict[int, str]:
    """Find what was made since the restore, by its number: what an entry of then names, or a lost change owns."""
    lost = {each.number: each for each in reversed(changes)}
    if not lost and not named:
        return {}
    rows = await unit.rows(select(table).where(_row.number >= min([*lost, *named])).order_by(_row.number))
    return {row.number: row.policy_id for row in rows if row.number in named or not _is_of(row, lost.get(row.number))}


def _is_of(row: Any, change: Change | None) -> bool:
    """Say whether a row is the change that was told of later, as where the backup is from in between."""
    if change is None:
        return False
    return (row.policy_id, row.state) == (change.policy_id, change.state) and row.at <= change.at


async def _move_behind(unit: Unit, since: Mapping[int, str], last: int) -> dict[int, int]:
    if not since or min(since) > last:
        return {}
    top = await revocations.newest(unit)
    moved = {number: max(last, top) + step for step, number in enumerate(sorted(since), 1)}
    for number in sorted(moved, reverse=True):
        await unit.execute(update(table).where(_row.number == number).values(number=moved[number]))
    return moved


async def _put(unit: Unit, change: Change) -> bool:
    """Write a change under its number; where that is another's, as an older version left it, under the next one."""
    row = await unit.row(select(table).where(_row.number == change.number))
    number = change.number
    if row is not None:
        if (row.policy_id, row.state) == (change.policy_id, change.state) or change.state != PolicyState.REVOKED:
            return False
        number = await revocations.newest(unit) + 1
    await _insert(unit, number, change.policy_id, change.state, change.at, change.publisher)
    return True


async def _insert(unit: Unit, number: int, policy_id: str, state: str, at: datetime, publisher: str) -> None:
    values = {"number": number, "policy_id": policy_id, "state": state, "at": at, "publisher": publisher[:100]}
    await unit.execute(insert(table).values(**values, announced=True))
