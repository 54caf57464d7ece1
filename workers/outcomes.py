"""What an assignment came to: the lists are rows, the answer carries counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select

from events.answers import answer
from events.handler import Asked
from schemas.identifiers import RequestOutcome
from twinlock.store.pruning import prune
from twinlock.store.tables.work import assignment_outcomes
from twinlock.store.unit import Reader, Store, Unit

_MOST_REASON = 500


@dataclass(frozen=True, slots=True)
class Counts:
    """Say how many containers were assigned and rejected."""

    assigned: int
    rejected: int

    @property
    def outcome(self) -> RequestOutcome:
        """Return how the request ended: refused only where everything was."""
        return RequestOutcome.REFUSED if self.rejected and not self.assigned else RequestOutcome.DONE


async def note(unit: Unit, list_id: str, assigned: Iterable[str], rejected: Mapping[str, str]) -> None:
    """Note what became of containers, in place of what was noted of them before."""
    found = [(name, "assigned", "") for name in assigned]
    found += [(name, "rejected", reason[:_MOST_REASON]) for name, reason in rejected.items()]
    if not found:
        return
    row = assignment_outcomes.c
    names = [name for name, _outcome, _reason in found]
    await unit.execute(delete(assignment_outcomes).where(row.job_id == list_id, row.container.in_(names)))
    shared = {"job_id": list_id, "at": unit.clock.now()}
    rows = [{**shared, "container": name, "outcome": out, "reason": why} for name, out, why in found]
    await unit.execute(insert(assignment_outcomes), rows)


async def forget(store: Store, before: datetime) -> int:
    """Forget what was noted of containers before a moment, and count the rows; answers have the counts for good."""
    return await prune(store, assignment_outcomes.c.at, before)


async def count(reader: Reader, list_id: str) -> Counts:
    """Count a list."""
    outcome = assignment_outcomes.c.outcome
    rows = await reader.rows(
        select(outcome, func.count().label("many")).where(assignment_outcomes.c.job_id == list_id).group_by(outcome)
    )
    counts = {row.outcome: row.many for row in rows}
    return Counts(counts.get("assigned", 0), counts.get("rejected", 0))


def asked_of(payload: Mapping[str, Any]) -> Asked | None:
    """Return the request that a job is for, or none where no request set it off."""
    return Asked.of(payload) if "request" in payload else None


async def answer_with(unit: Unit, asked: Asked | None, list_id: str, counts: Counts, what: str) -> None:
    """Answer the request, where there is one, with the counts of its list."""
    if asked is None:
        return
    said = {"job": list_id, "assigned": counts.assigned, "rejected": counts.rejected}
    sentence = f"{counts.assigned} {what} assigned, {counts.rejected} rejected"
    await answer(unit, asked, counts.outcome, said, sentence)
