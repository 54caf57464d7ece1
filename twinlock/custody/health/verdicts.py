"""What the root keys answered, kept in the database, and what follows from it: health, events, alerts.

The last definite verdict of a slot (ok, denied, corrupt) outlives every outage and restart (law 4). Failures that count
are evidence of an outage, until the slot answers anything at all (law 5). A failure that does not count (429, our own
limiter) says nothing about the key and leaves no trace here. `definite_at` and `since` are when it began to be so. Kept
with a slot is what its vault said to the verdict that holds: an outage does not cover up why a key was denied before.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from schemas.facts import AlertCleared, AlertRaised, HealthChanged
from schemas.identifiers import MAX_DETAIL, PolicyHealth, Slot
from twinlock.custody.audit.chain import moment
from twinlock.custody.decision import ROOT_SLOTS, Alert, Outcomes, alerts_for, remember
from twinlock.custody.health.evidence import gather
from twinlock.custody.health.repeating import beats
from twinlock.custody.policies import Policy
from twinlock.custody.rows import read_policy
from twinlock.custody.settings import EvidenceRules
from twinlock.keys.ports import Outcome, VaultFailure
from twinlock.store.tables.custody import policies, verdicts
from twinlock.store.text import storable
from twinlock.store.unit import Reader, Unit

log = logging.getLogger(__name__)

_DEFINITE = (Outcome.OK, Outcome.DENIED, Outcome.CORRUPT)


@dataclass(frozen=True, slots=True)
class Said:
    """Hold a vault's own words: the reason for people, its raw codes, its name of the request, who judged them."""

    detail: str = ""
    raw: str = ""
    request_id: str = ""
    classifier: str = ""


_NOTHING = Said()


@dataclass(frozen=True, slots=True)
class SlotVerdict:
    """Hold what one root key came to, as its vault said it; `asked_at` is when the question left."""

    slot: Slot
    outcome: Outcome
    asked_at: datetime
    detail: str = ""
    raw: str = ""
    request_id: str = ""
    classifier: str = ""
    exact: bool = False
    counts: bool = False

    @classmethod
    def failed(cls, slot: Slot, failure: VaultFailure, asked_at: datetime) -> "SlotVerdict":
        """Keep a vault's failure."""
        return cls(
            slot,
            failure.outcome,
            asked_at,
            detail=storable(failure.detail, 1000),
            raw=storable(failure.raw, 1000),
            request_id=storable(failure.request_id, 200),
            classifier=storable(failure.classifier, 50),
            exact=failure.exact,
            counts=failure.counts and failure.outcome is Outcome.UNAVAILABLE,
        )

    @property
    def said(self) -> Said:
        """Return the vault's own words."""
        return Said(self.detail, self.raw, self.request_id, self.classifier)

    @property
    def says_something(self) -> bool:
        """Say whether this tells anything about the key itself."""
        return self.counts or self.outcome is not Outcome.UNAVAILABLE


def heard_from(found: Iterable[SlotVerdict]) -> str | None:
    """Say in short what each slot that was asked came to, such as `a=denied,b=ok`."""
    return ",".join(sorted(f"{each.slot}={each.outcome}" for each in found)) or None


@dataclass(frozen=True, slots=True)
class SlotStanding:
    """Hold what is stored of one slot; a slot that was never asked is taken to be good."""

    definite: Outcome | None = None
    definite_at: datetime | None = None
    outcome: Outcome = Outcome.OK
    since: datetime | None = None
    checked_at: datetime | None = None
    exact: bool = False
    said: Said = _NOTHING

    @property
    def held_since(self) -> datetime | None:
        """Return since when it stands so, or none where it was never asked: a denial goes on through an outage."""
        lasts = self.folded is self.definite and self.definite is not Outcome.OK
        return self.definite_at if lasts else self.since

    @property
    def folded(self) -> Outcome:
        """Return what the slot stands at, by memory (law 4)."""
        return remember(self.definite, self.outcome)

    @property
    def reason(self) -> str:
        """Return what its vault said, of a key that does not answer."""
        return "" if self.folded is Outcome.OK else self.said.detail

    @property
    def confirmed(self) -> bool:
        """Say whether a definite verdict came with an exact code, or outlasted a second look at the key."""
        seen_again = self.checked_at is not None and self.definite_at is not None and self.checked_at > self.definite_at
        return self.exact or seen_again


@dataclass(frozen=True, slots=True)
class Standing:
    """Hold how a policy stands: its row and its two slots, read in one view."""

    policy: Policy
    slots: Mapping[Slot, SlotStanding]

    @property
    def outcomes(self) -> Outcomes:
        """Return where both slots stand, by memory."""
        return self.slots[Slot.A].folded, self.slots[Slot.B].folded

    def now(self, answers: Iterable[SlotVerdict]) -> Outcomes:
        """Return where both slots stand for a call that just got these answers; a slot not asked stands as stored."""
        current = {answer.slot: answer.outcome for answer in answers}
        a, b = (remember(self.slots[s].definite, current.get(s, self.slots[s].folded)) for s in ROOT_SLOTS)
        return a, b


async def read_standing(reader: Reader, policy_id: str, *, lock: bool = False) -> Standing:
    """Read how a policy stands; NotFound if there is none."""
    policy = await read_policy(reader, policy_id, lock=lock)
    rows = await reader.rows(select(verdicts).where(verdicts.c.policy_id == policy_id))
    stored = {Slot(row.slot): _as_standing(row) for row in rows}
    return Standing(policy, {slot: stored.get(slot, SlotStanding()) for slot in ROOT_SLOTS})


def _as_standing(row: Row[Any]) -> SlotStanding:
    definite = None if row.definite is None else Outcome(row.definite)
    said = Said(row.detail, row.raw, row.request_id, row.classifier)
    return SlotStanding(definite, row.definite_at, Outcome(row.outcome), row.since, row.checked_at, row.exact, said)


async def record(unit: Unit, policy_id: str, answers: Sequence[SlotVerdict], rules: EvidenceRules) -> Standing:
    """Store what root keys answered, with the change of health and the alerts that follow; return the new standing."""
    before = await read_standing(unit, policy_id, lock=True)
    slots = dict(before.slots)
    for answer in answers:
        if answer.says_something and not _stale(before.slots[answer.slot], answer):
            slots[answer.slot] = await _store(unit, policy_id, before.slots[answer.slot], answer)
            await gather(unit, policy_id, answer.slot, answer.outcome, rules)
    after = Standing(before.policy, slots)
    policy = await _change_health(unit, after)
    held = alerts_for(before.outcomes)
    news = [each for each in alerts_for(after.outcomes) if each not in held or _counts_again(each, before, after)]
    raise_alerts(unit, policy, news, slots)
    return Standing(policy, slots)


def _counts_again(alert: Alert, before: Standing, after: Standing) -> bool:
    """Say whether an alert that goes on was seen anew by these answers, and not yet in this part of its time."""
    failing = [slot for slot in ROOT_SLOTS if alert.slot in (None, slot) and after.slots[slot].folded is not Outcome.OK]
    since = [each for slot in failing if (each := after.slots[slot].held_since)]
    seen = [each for slot in failing if (each := before.slots[slot].checked_at)]
    now = [each for slot in failing if (each := after.slots[slot].checked_at)]
    return bool(seen) and beats(max(now) - max(since)) > beats(max(seen) - max(since))


def _stale(standing: SlotStanding, answer: SlotVerdict) -> bool:
    # A good answer that was on its way while another process saw the denial must not lift it.
    refused = standing.folded in (Outcome.DENIED, Outcome.CORRUPT) and standing.checked_at is not None
    return answer.outcome is Outcome.OK and refused and answer.asked_at < (standing.checked_at or answer.asked_at)


async def _store(unit: Unit, policy_id: str, old: SlotStanding, answer: SlotVerdict) -> SlotStanding:
    now = unit.clock.now()
    again = old.checked_at is not None and old.outcome is answer.outcome
    settled = answer.outcome if answer.outcome in _DEFINITE else old.definite
    covered = remember(settled, answer.outcome) is not answer.outcome
    new = SlotStanding(
        definite=settled,
        definite_at=old.definite_at if settled is old.definite else now,
        outcome=answer.outcome,
        since=old.since if again else now,
        checked_at=now,
        exact=answer.exact,
        said=old.said if covered else answer.said,
    )
    values = _values(new)
    if old.checked_at is None:
        await unit.execute(insert(verdicts).values(policy_id=policy_id, slot=answer.slot.value, **values))
    else:
        here = (verdicts.c.policy_id == policy_id) & (verdicts.c.slot == answer.slot.value)
        await unit.execute(update(verdicts).where(here).values(**values))
    return new


def _values(standing: SlotStanding) -> dict[str, Any]:
    return {
        "definite": standing.definite,
        "definite_at": standing.definite_at,
        "outcome": standing.outcome,
        "since": standing.since,
        "checked_at": standing.checked_at,
        "exact": standing.exact,
        "detail": standing.said.detail,
        "raw": standing.said.raw,
        "request_id": standing.said.request_id,
        "classifier": standing.said.classifier,
    }


def health_of(outcomes: Outcomes) -> PolicyHealth:
    """Return a policy's health: how many of its root keys answer."""
    good = outcomes.count(Outcome.OK)
    return (PolicyHealth.UNHEALTHY, PolicyHealth.DEGRADED, PolicyHealth.HEALTHY)[good]


async def _change_health(unit: Unit, after: Standing) -> Policy:
    policy, health = after.policy, health_of(after.outcomes)
    if health is policy.health:
        return policy
    await unit.execute(
        update(policies).where(policies.c.id == policy.id).values(health=health.value, version=policy.version + 1)
    )
    changed = await read_policy(unit, policy.id)
    slots = {slot: after.slots[slot].folded.value for slot in ROOT_SLOTS}
    unit.emit(
        HealthChanged(
            policy=policy.id,
            version=changed.version,
            tenant=policy.tenant,
            health=health,
            was=policy.health,
            slots=slots,
            since={slot: moment(at) for slot in ROOT_SLOTS if (at := after.slots[slot].held_since)},
            reasons={slot: said for slot in ROOT_SLOTS if (said := after.slots[slot].reason)},
        )
    )
    log.warning("policy %s is %s (was %s): %s", policy, health.value, policy.health.value, _shown(after.slots))
    return changed


def raise_alerts(
    unit: Unit, policy: Policy, alerts: Iterable[Alert], slots: Mapping[Slot, SlotStanding] | None = None
) -> None:
    """Queue alerts as events of this unit, and log them; they say how the root keys stand, if that is given."""
    for alert in alerts:
        detail = _detail(policy, alert, slots)
        unit.emit(
            AlertRaised(
                kind=alert.kind,
                severity=alert.severity,
                audience=alert.audience,
                tenant=policy.tenant,
                policy=policy.id,
                slot=alert.slot,
                detail=detail,
            )
        )
        log.warning("alert %s (%s, to %s): %s", alert.kind, alert.severity, alert.audience, detail)


def _shown(slots: Mapping[Slot, SlotStanding]) -> str:
    return ", ".join(f"root key {slot} {slots[slot].folded.value}{_why(slots[slot])}" for slot in ROOT_SLOTS)


def _why(slot: SlotStanding) -> str:
    return f" ({slot.reason})" if slot.reason else ""


def clear_alerts(unit: Unit, policy: Policy, alerts: Iterable[Alert]) -> None:
    """Queue, as events of this unit, that what was raised is over."""
    for alert in alerts:
        unit.emit(
            AlertCleared(
                kind=alert.kind, audience=alert.audience, tenant=policy.tenant, policy=policy.id, slot=alert.slot
            )
        )


def _detail(policy: Policy, alert: Alert, slots: Mapping[Slot, SlotStanding] | None) -> str:
    if alert.slot is None:
        return f"policy {policy}: {alert.kind if slots is None else _shown(slots)}"[:MAX_DETAIL]
    said = "" if slots is None else slots[alert.slot].reason
    return f"policy {policy}, root key {alert.slot}: {said or alert.kind}"[:MAX_DETAIL]
