"""What becomes of a cached key, and the published bound."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from schemas.identifiers import AvailabilityMode, PolicyHealth, PolicyState, Slot, Workload
from twinlock.custody.fate import Fate, bound_seconds, fate
from twinlock.custody.health.verdicts import SlotStanding, Standing
from twinlock.custody.policies import Policy
from twinlock.custody.settings import CustodySettings
from twinlock.keys.ports import Outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(
    id="p",
    tenant_id="t",
    tenant="acme",
    name="main",
    workload=Workload.MAILBOX,
    mode=AvailabilityMode.STANDARD,
    state=PolicyState.ACTIVE,
    health=PolicyHealth.HEALTHY,
    newest_generation=1,
    version=1,
)
OK, UNAVAILABLE, DENIED, UNCLEAR, CORRUPT = (
    Outcome.OK,
    Outcome.UNAVAILABLE,
    Outcome.DENIED,
    Outcome.UNCLEAR,
    Outcome.CORRUPT,
)


def slot(outcome: Outcome, *, exact: bool = False, age: float = 0) -> SlotStanding:
    """Stand at an outcome since `age` seconds, looked at just now."""
    began = NOW - timedelta(seconds=age)
    definite = outcome if outcome in (OK, DENIED, CORRUPT) else None
    return SlotStanding(definite, began if definite else None, outcome, began, NOW, exact)


def judge(a: SlotStanding, b: SlotStanding) -> Fate:
    """Return the fate, which the order of the slots never changes."""
    there, back = (fate(Standing(POLICY, {Slot.A: x, Slot.B: y}), NOW, 1800) for x, y in ((a, b), (b, a)))

    assert there == back
    return there


@pytest.mark.parametrize("other", Outcome)
def test_law_7_good_slot_renews(other: Outcome) -> None:
    """Law 7: beside a good slot no failure of the other ends the key's life."""
    assert Fate.RENEW == judge(slot(OK), slot(other, exact=True, age=7200))


@pytest.mark.parametrize("other", [o for o in Outcome if o is not OK])
def test_law_7_exact_denial(other: Outcome) -> None:
    """Law 7: an exact denial evicts at once, whatever the other slot's failure is."""
    assert Fate.EVICT == judge(slot(DENIED, exact=True), slot(other))


@pytest.mark.parametrize("other", [UNAVAILABLE, UNCLEAR, Outcome.MISCONFIGURED, DENIED])
def test_law_7_inexact_denial(other: Outcome) -> None:
    """Law 7: a denial without an exact code evicts when a second look still finds it."""
    assert (Fate.KEEP, Fate.EVICT) == (judge(slot(DENIED), slot(other)), judge(slot(DENIED, age=1), slot(other)))


@pytest.mark.parametrize("other", [o for o in Outcome if o is not OK])
def test_law_7_corrupt(other: Outcome) -> None:
    """Law 7: a corrupt slot without a good one evicts."""
    assert Fate.EVICT == judge(slot(CORRUPT), slot(other))


def test_law_7_unclear() -> None:
    """Law 7: unclear on both slots evicts after 30 minutes, counted from the slot that became so last."""
    assert Fate.KEEP == judge(slot(UNCLEAR, age=7200), slot(UNCLEAR, age=1799))
    assert Fate.EVICT == judge(slot(UNCLEAR, age=7200), slot(UNCLEAR, age=1800))
    assert Fate.KEEP == judge(slot(UNCLEAR, age=7200), slot(UNAVAILABLE, age=7200))


@pytest.mark.parametrize("pair", list(product((UNAVAILABLE, Outcome.MISCONFIGURED), repeat=2)))
def test_law_7_keeps(pair: tuple[Outcome, Outcome]) -> None:
    """Law 7: outages and faults of our own keep the key to its hard expiry."""
    assert Fate.KEEP == judge(slot(pair[0], age=7200), slot(pair[1], age=7200))


def test_law_7_remembered_denial() -> None:
    """Laws 4 and 7: a denial that is only remembered, behind an outage, counts like one that is seen."""
    hidden = replace(slot(UNAVAILABLE, age=1), definite=DENIED, definite_at=NOW - timedelta(seconds=300))

    assert Fate.EVICT == judge(hidden, slot(UNAVAILABLE))


def test_bound() -> None:
    """The published bound is two probe intervals, their deadlines and what callers may keep, from the settings."""
    settings = CustodySettings(probe_interval=100, vault_deadline=5, keep_seconds=30)

    assert 240 == bound_seconds(settings)
    assert 668 == bound_seconds(CustodySettings())
