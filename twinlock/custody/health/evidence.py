"""Evidence of an outage: failures that count, kept until the slot answers anything at all (law 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select

from schemas.identifiers import Slot
from twinlock.custody.decision import ROOT_SLOTS
from twinlock.custody.settings import EvidenceRules
from twinlock.keys.ports import Outcome
from twinlock.store.tables.custody import evidence
from twinlock.store.unit import Reader, Unit


@dataclass(frozen=True, slots=True)
class Gathered:
    """Hold how many failures of a slot count now, over how many seconds, and whether that proves an outage."""

    failures: int
    over_seconds: float
    proves: bool


async def gather(unit: Unit, policy_id: str, slot: Slot, outcome: Outcome, rules: EvidenceRules) -> None:
    """Keep a failure that counts, or forget all of a slot that answered: that is no outage any more."""
    here = (evidence.c.policy_id == policy_id) & (evidence.c.slot == slot.value)
    if outcome is not Outcome.UNAVAILABLE:
        await unit.execute(delete(evidence).where(here))
        return
    now = unit.clock.now()
    stale = now - timedelta(seconds=rules.fresh_seconds)
    await unit.execute(delete(evidence).where(here, evidence.c.at < stale))
    await unit.execute(insert(evidence).values(policy_id=policy_id, slot=slot.value, at=now))


async def read_evidence(reader: Reader, policy_id: str, now: datetime, rules: EvidenceRules) -> Mapping[Slot, Gathered]:
    """Return what there is for each slot: enough failures, over long enough, none of them old, prove an outage."""
    fresh = now - timedelta(seconds=rules.fresh_seconds)
    rows = await reader.rows(
        # What another process's clock dates into the future proves no more than what is too old.
        select(evidence.c.slot, evidence.c.at).where(
            evidence.c.policy_id == policy_id, evidence.c.at >= fresh, evidence.c.at <= now
        )
    )
    return {slot: _gathered([row.at for row in rows if row.slot == slot.value], rules) for slot in ROOT_SLOTS}


async def proven_unavailable(reader: Reader, policy_id: str, now: datetime, rules: EvidenceRules) -> tuple[bool, bool]:
    """Say for each slot whether its failures prove an outage."""
    found = await read_evidence(reader, policy_id, now, rules)
    return found[Slot.A].proves, found[Slot.B].proves


def _gathered(times: Sequence[datetime], rules: EvidenceRules) -> Gathered:
    over = (max(times) - min(times)).total_seconds() if times else 0.0
    return Gathered(len(times), over, len(times) >= max(rules.failures, 1) and over >= rules.over_seconds)
