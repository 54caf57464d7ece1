"""What the states of policies end in after a restore: as the lost change with the highest number says (law 8).

The order of entries in the log does not matter. What somebody has decided since the restore, without knowing what was
lost, counts as well, but lifts nothing that is stricter; a purge that had begun ends as a purge.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from schemas.identifiers import PolicyState
from twinlock.custody.audit.log import AuditEntry
from twinlock.restoring.changes import Change, Placed, add
from twinlock.restoring.purges import Carried, carry_on
from twinlock.restoring.unreplayed import Unreplayed
from twinlock.store.tables.custody import policies
from twinlock.store.tables.custody import revocations as table
from twinlock.store.unit import Unit

_GONE = "what it is about is not in this database"
_ASKED = "the request is lost, with its signatures: request the purge again"
_STRICTER = (PolicyState.ACTIVE, PolicyState.REVOKED, PolicyState.PURGING, PolicyState.PURGED)


@dataclass(slots=True)
class Came:
    """Hold what replaying came to: how much was changed, what could not be, and entries for what took a new number."""

    replayed: int = 0
    unreplayed: list[Unreplayed] = field(default_factory=list)
    audited: list[AuditEntry] = field(default_factory=list)

    def note(self, came: Unreplayed | bool) -> None:
        """Count what an entry came to."""
        if isinstance(came, Unreplayed):
            self.unreplayed.append(came)
        else:
            self.replayed += came

    def add(self, other: "Came") -> None:
        """Count what others have counted."""
        self.replayed += other.replayed
        self.unreplayed += other.unreplayed
        self.audited += other.audited


@dataclass(slots=True)
class _Tale:
    """Gather what lost entries tell of one policy."""

    changes: list[Change] = field(default_factory=list)
    begun: Any = None
    certified: Any = None

    def end(self, found: PolicyState) -> PolicyState:
        """Return the state that lost changes lead to; a request is undone by the loss, for there is none here.

        Who is revoked while a purge waits goes on being purged, and is revoked when that is given up.
        """
        for change in self.changes:
            held = found is PolicyState.PURGING and change.entry.kind == "policy-revoked"
            if not _is_asked(change) and not held:
                found = PolicyState(change.state)
        return found

    @property
    def last(self) -> Any:
        return self.certified or self.begun or self.changes[-1].entry


async def set_states(unit: Unit, lost: Iterable[Any], placed: Placed, keep: timedelta) -> Came:
    """Give every policy that the loss concerns its state; the numbers have their places already."""
    came, tales = Came(), _tales(lost, placed.changes)
    for policy_id in sorted({*tales, *placed.since} - {""}):
        tale = tales.get(policy_id, _Tale())
        row = policies.c
        found = await unit.row(select(row.tenant_id, row.state).where(row.id == policy_id).with_for_update())
        if found is None:
            came.unreplayed += [Unreplayed.of(tale.last, _GONE)] if policy_id in tales else []
            continue
        purge = await carry_on(unit, policy_id, tale.begun, tale.certified, keep)
        state = _end(tale, purge, PolicyState(found.state), policy_id in placed.since)
        came.replayed += sum(each.policy_id == policy_id and not _is_asked(each) for each in placed.added)
        came.replayed += purge.replayed
        came.unreplayed += purge.unreplayed
        if tale.changes and _is_asked(tale.changes[-1]) and tale.last is tale.changes[-1].entry:
            came.unreplayed.append(Unreplayed.of(tale.last, _ASKED))
        await _set(unit, policy_id, found, state, came)
    return came


def _tales(lost: Iterable[Any], changes: Sequence[Change]) -> dict[str, _Tale]:
    tales: dict[str, _Tale] = {}
    for change in changes:
        tales.setdefault(change.policy_id, _Tale()).changes.append(change)
    for entry in lost:
        if entry.kind == "purge-begun":
            tales.setdefault(entry.policy_id, _Tale()).begun = entry
        elif entry.kind == "purge-certified":
            tales.setdefault(entry.policy_id, _Tale()).certified = entry
    return tales


def _is_asked(change: Change) -> bool:
    return bool(change.entry.kind == "approval-requested")


def _end(tale: _Tale, purge: Carried, found: PolicyState, since: bool) -> PolicyState:
    if purge.state is not None:
        return purge.state
    end = tale.end(found)
    return max(end, found, key=_STRICTER.index) if since else end


async def _set(unit: Unit, policy_id: str, found: Any, state: PolicyState, came: Came) -> None:
    """Let the newest number of a policy say what its state is, with another one where it does not."""
    row = table.c
    newest = select(row.state).where(row.policy_id == policy_id).order_by(row.number.desc()).limit(1)
    if (await unit.scalar(newest) or PolicyState.ACTIVE) != state.value:
        number = await add(unit, policy_id, state)
        detail = {"number": number, "state": state.value, "sender": unit.sender}
        came.audited.append(AuditEntry("revocation-replayed", found.tenant_id, policy_id, detail))
    if found.state != state.value:
        moved = {"state": state.value, "version": policies.c.version + 1}
        await unit.execute(update(policies).where(policies.c.id == policy_id).values(moved))
