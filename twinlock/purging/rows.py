"""How far a purge is, as it is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select, update

from schemas.identifiers import ApprovalState
from twinlock.approvals.rows import Approval
from twinlock.content.purging import Destroyed
from twinlock.custody.port import RootAnswer
from twinlock.errors import NotFound
from twinlock.keys.ports import Outcome
from twinlock.store.tables.purges import purges
from twinlock.store.unit import Reader, Unit

Keys = Mapping[str, Any]


class Stage(StrEnum):
    """Say what a purge comes to next; from `CONTENT` on it is destroying, and nothing ends it but its end."""

    WAITING = "waiting"  # for two signatures
    COOLING = "cooling"  # until it is due
    CONTENT = "content"
    KEYS = "keys"
    PENDING = "pending"  # until the provider's vault says that the last key is gone for good
    DONE = "done"


class Moment(StrEnum):
    """Name when the root keys are asked."""

    REQUESTED = "requested"
    APPROVED = "approved"
    BEGUN = "begun"


@dataclass(frozen=True, slots=True)
class Look:
    """Hold what both root keys came to, and when they were asked."""

    at: datetime
    answers: tuple[RootAnswer, RootAnswer]

    @property
    def denied(self) -> bool:
        """Say whether both are definitely denied: each vault said so, just now."""
        return all(answer.outcome is Outcome.DENIED for answer in self.answers)

    def document(self) -> list[dict[str, Any]]:
        """Return the verdicts for people and programs."""
        return [
            {"slot": each.slot.value, "uri": each.uri, "outcome": each.outcome.value, "detail": each.detail}
            for each in self.answers
        ]

    def __str__(self) -> str:
        return "; ".join(f"root key {each.slot}: {each.outcome}" for each in self.answers)


@dataclass(frozen=True, slots=True)
class Purge:
    """Hold a purge as one read saw it; its id is the approval's."""

    id: str
    policy_id: str
    stage: Stage
    verdicts: Mapping[str, Any]
    keys: Keys
    containers: int
    items: int
    objects: int
    begun_at: datetime | None
    finished_at: datetime | None
    certificate: bytes | None

    def state(self, approval: Approval, now: datetime) -> str:
        """Say how it stands, in the words of approvals until it destroys."""
        if self.stage in (Stage.CONTENT, Stage.KEYS):
            return "destroying"
        if self.stage in (Stage.PENDING, Stage.DONE):
            return self.stage.value
        late = approval.state is ApprovalState.APPROVED and now >= approval.expires_at
        return (ApprovalState.EXPIRED if late else approval.state_at(now)).value


async def find_purge(reader: Reader, request_id: str) -> Purge:
    """Return a purge by its id; raise `NotFound`."""
    row = await reader.row(select(purges).where(purges.c.id == request_id))
    if row is None:
        raise NotFound(f"there is no purge {request_id[:64]}", hint="see: twinlock approval list")
    values = {column.name: row._mapping[column.name] for column in purges.c}
    return Purge(**{**values, "stage": Stage(row.stage)})


async def add_purge(unit: Unit, request_id: str, policy_id: str, look: Look) -> None:
    """Write a new purge, which waits for signatures."""
    row = {
        "id": request_id,
        "policy_id": policy_id,
        "stage": Stage.WAITING.value,
        "verdicts": _with({}, Moment.REQUESTED, look),
        "keys": {},
        "containers": 0,
        "items": 0,
        "objects": 0,
    }
    await unit.execute(insert(purges).values(row))


async def looked(unit: Unit, purge: Purge, moment: Moment, look: Look, stage: Stage, **values: Any) -> None:
    """Move a purge on after a look at the root keys."""
    await _change(unit, purge, stage, verdicts=_with(purge.verdicts, moment, look), **values)


async def destroyed(unit: Unit, purge: Purge, more: Destroyed) -> None:
    """Count what a step destroyed."""
    counts = {"containers": more.containers, "items": more.items, "objects": more.objects}
    await _change(unit, purge, purge.stage, **{name: purges.c[name] + count for name, count in counts.items()})


async def move_on(unit: Unit, purge: Purge, stage: Stage, **values: Any) -> None:
    """Move a purge on to what comes next."""
    await _change(unit, purge, stage, **values)


def availability_of(purge: Purge) -> Sequence[dict[str, Any]]:
    """Return the availability keys that a purge destroys, each with `uri`, `state` and `final_at`."""
    return [dict(each) for each in purge.keys["availability_keys"]]


async def _change(unit: Unit, purge: Purge, stage: Stage, **values: Any) -> None:
    await unit.execute(update(purges).where(purges.c.id == purge.id).values(stage=stage.value, **values))


def _with(verdicts: Mapping[str, Any], moment: Moment, look: Look) -> dict[str, Any]:
    at = look.at.isoformat(timespec="seconds")
    return {**verdicts, moment.value: {"at": at, "root_keys": look.document()}}
