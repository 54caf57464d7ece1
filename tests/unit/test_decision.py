"""The decision function, cell by cell, against a table that is written out here and not computed from the code."""

from itertools import product
from pathlib import Path

import pytest

from schemas.identifiers import Audience, AvailabilityMode, PolicyState, Severity, Slot
from tests.decision_table import CELLS, cell_of
from twinlock.custody.decision import (
    AvailabilityKeyState,
    Decision,
    Evidence,
    Outcomes,
    Reason,
    Result,
    alerts_for,
    decide,
    remember,
    table,
)
from twinlock.custody.errors_page import markdown
from twinlock.custody.port import InitiatorClass
from twinlock.keys.ports import Outcome

EVIDENCE = [Evidence(a, b, w) for a, b, w in product((False, True), repeat=3)]
COMPLETE = Evidence(a=True, b=True, witness=True)


def expected(
    state: str, mode: str, initiator: str, slots: tuple[str, str], evidence: Evidence, availability: str
) -> Result:
    """Look the result up in the table above."""
    if state != "active":
        return Result.REFUSE
    cell = cell_of(slots, mode, initiator)
    if cell in ("S", "-"):
        return Result.SERVE if cell == "S" else Result.REFUSE
    if cell == "u" and (evidence.a, evidence.b, evidence.witness) != (True, True, True):
        return Result.WAIT
    return Result.SERVE_BY_AVAILABILITY_KEY if availability == "present" else Result.REFUSE


def ask(
    slots: Outcomes,
    *,
    mode: AvailabilityMode = AvailabilityMode.STANDARD,
    initiator: InitiatorClass = InitiatorClass.USER,
    state: PolicyState = PolicyState.ACTIVE,
    evidence: Evidence = COMPLETE,
    availability: AvailabilityKeyState = AvailabilityKeyState.PRESENT,
) -> Decision:
    """Decide a call in which all is well but for what is given."""
    return decide(
        state=state, mode=mode, initiator=initiator, slots=slots, evidence=evidence, availability=availability
    )


@pytest.mark.parametrize("state", PolicyState)
@pytest.mark.parametrize("mode", AvailabilityMode)
@pytest.mark.parametrize("initiator", InitiatorClass)
def test_every_cell(state: PolicyState, mode: AvailabilityMode, initiator: InitiatorClass) -> None:
    """Every pair of classes, evidence and availability key state decides as the design's table says."""
    inputs = list(product(product(Outcome, Outcome), EVIDENCE, AvailabilityKeyState))
    wanted = [expected(state, mode, initiator, slots, evidence, key) for slots, evidence, key in inputs]
    found = [
        ask(slots, mode=mode, initiator=initiator, state=state, evidence=evidence, availability=key).result
        for slots, evidence, key in inputs
    ]

    assert wanted == found


def test_tables_are_whole() -> None:
    """The expected table names every pair of classes, so that no cell is tested by accident."""
    assert set(product((o.value for o in Outcome), repeat=2)) == set(CELLS)


@pytest.mark.parametrize("pair", list(product(Outcome, repeat=2)))
@pytest.mark.parametrize("initiator", InitiatorClass)
def test_symmetric(pair: Outcomes, initiator: InitiatorClass) -> None:
    """Swapping the two slots changes nothing but the slot that an alert names."""
    there, back = ask(pair, initiator=initiator), ask((pair[1], pair[0]), initiator=initiator)
    swapped = {None: None, Slot.A: Slot.B, Slot.B: Slot.A}

    assert (there.result, there.reason) == (back.result, back.reason)
    assert {(a.kind, a.audience, swapped[a.slot]) for a in there.alerts} == {
        (a.kind, a.audience, a.slot) for a in back.alerts
    }


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ((Outcome.CORRUPT, Outcome.MISCONFIGURED), Reason.CORRUPT),
        ((Outcome.MISCONFIGURED, Outcome.UNCLEAR), Reason.MISCONFIGURED),
        ((Outcome.UNCLEAR, Outcome.DENIED), Reason.UNCLEAR),
        ((Outcome.DENIED, Outcome.UNAVAILABLE), Reason.DENIED),
        ((Outcome.UNAVAILABLE, Outcome.UNAVAILABLE), Reason.UNAVAILABLE),
        ((Outcome.OK, Outcome.CORRUPT), Reason.ROOT_KEY),
    ],
)
def test_reason(pair: Outcomes, reason: Reason) -> None:
    """The first rule from the top that fits gives the reason."""
    assert reason == ask(pair, mode=AvailabilityMode.NONE).reason


def test_revoked_beats_everything() -> None:
    """A policy that is not active refuses whatever its root keys say, in every mode, and raises no alert."""
    for state, mode in product((PolicyState.REVOKED, PolicyState.PURGING, PolicyState.PURGED), AvailabilityMode):
        assert Decision(Result.REFUSE, Reason.NOT_ACTIVE) == ask((Outcome.OK, Outcome.OK), state=state, mode=mode)


def test_law_7_once() -> None:
    """Law 7: only what the availability key opens after a denial serves one call alone."""
    denied = ask((Outcome.DENIED, Outcome.DENIED), initiator=InitiatorClass.SERVICE)
    away = ask((Outcome.UNAVAILABLE, Outcome.UNAVAILABLE))

    assert (True, False) == (denied.once, away.once)


def test_every_refusal_has_a_hint() -> None:
    """Whoever is refused or has to wait is told what to do."""
    decisions = [ask(pair, mode=mode) for pair in product(Outcome, Outcome) for mode in AvailabilityMode]

    assert [] == [d for d in decisions if d.result in (Result.REFUSE, Result.WAIT) and not d.hint]


CUSTOMER, ENGINEERING = Audience.CUSTOMER, Audience.ENGINEERING


@pytest.mark.parametrize(
    ("pair", "wanted"),
    [
        ("ok ok", []),
        ("ok unavailable", [("policy-degraded", CUSTOMER)]),
        ("ok denied", [("key-revoked", CUSTOMER), ("policy-degraded", CUSTOMER)]),
        ("ok unclear", [("policy-degraded", ENGINEERING)]),
        ("ok misconfigured", [("identity-failure", ENGINEERING), ("policy-degraded", ENGINEERING)]),
        ("ok corrupt", [("corrupt-wrap", ENGINEERING), ("policy-degraded", ENGINEERING)]),
        ("unavailable unavailable", [("policy-unhealthy", CUSTOMER)]),
        ("denied unavailable", [("key-revoked", CUSTOMER), ("policy-unhealthy", CUSTOMER)]),
        ("denied denied", [("key-revoked", CUSTOMER), ("key-revoked", CUSTOMER), ("policy-unhealthy", CUSTOMER)]),
        ("denied unclear", [("key-revoked", CUSTOMER), ("policy-unhealthy", ENGINEERING)]),
        ("unclear unclear", [("policy-unhealthy", ENGINEERING)]),
        ("misconfigured unavailable", [("identity-failure", ENGINEERING), ("policy-unhealthy", ENGINEERING)]),
        ("corrupt unavailable", [("corrupt-wrap", ENGINEERING), ("policy-unhealthy", ENGINEERING)]),
    ],
)
def test_alerts(pair: str, wanted: list[tuple[str, Audience]]) -> None:
    """An alert follows the class of the failure, and goes to those who can act on it."""
    first, second = (Outcome(name) for name in pair.split())

    assert wanted == [(alert.kind, alert.audience) for alert in alerts_for((first, second))]


def test_law_1_corrupt_is_critical() -> None:
    """Law 1: a corrupt slot beside a good one is served, with the critical alert to engineering that names it."""
    decision = ask((Outcome.OK, Outcome.CORRUPT))
    (alert,) = [alert for alert in decision.alerts if alert.kind == "corrupt-wrap"]

    assert Result.SERVE == decision.result
    assert (Severity.CRITICAL, ENGINEERING, Slot.B) == (alert.severity, alert.audience, alert.slot)


def test_missing_availability_key_alerts() -> None:
    """A needed availability key that can't be used refuses and alerts engineering."""
    pair = (Outcome.UNAVAILABLE, Outcome.UNAVAILABLE)
    for state in (AvailabilityKeyState.ABSENT, AvailabilityKeyState.DESTROYED, AvailabilityKeyState.FAILED):
        decision = ask(pair, availability=state)

        assert (Result.REFUSE, Reason.AVAILABILITY_KEY) == (decision.result, decision.reason)
        assert ("availability-key-failed", ENGINEERING) in {(a.kind, a.audience) for a in decision.alerts}


VAGUE = (Outcome.UNAVAILABLE, Outcome.UNCLEAR, Outcome.MISCONFIGURED)
DEFINITE = (Outcome.OK, Outcome.DENIED, Outcome.CORRUPT)


@pytest.mark.parametrize("held", [Outcome.DENIED, Outcome.CORRUPT])
@pytest.mark.parametrize("current", VAGUE)
def test_law_4_holds(held: Outcome, current: Outcome) -> None:
    """Law 4: a stored denial or corruption stays through everything that is not definite itself."""
    assert held == remember(held, current)


@pytest.mark.parametrize("held", [None, *DEFINITE])
@pytest.mark.parametrize("current", DEFINITE)
def test_law_4_newer_definite(held: Outcome | None, current: Outcome) -> None:
    """Law 4: a newer definite verdict replaces the stored one, a good answer above all."""
    assert current == remember(held, current)


@pytest.mark.parametrize("held", [None, Outcome.OK])
@pytest.mark.parametrize("current", VAGUE)
def test_law_4_nothing_held(held: Outcome | None, current: Outcome) -> None:
    """Law 4: where nothing bad is stored, the current answer stands."""
    assert current == remember(held, current)


def test_table_rows() -> None:
    """The printed table has every pair once, and shows by mode what depends on it."""
    rows = {row.situation: row for row in table()}

    assert 31 == len(rows)
    assert ("serve", "serve") == (rows["ok + corrupt"].user, rows["ok + corrupt"].service)
    assert "refuse" == rows["denied + denied"].user
    assert (
        "standard: serve by the availability key; strict, recovery-only, none: refuse"
        == rows["denied + denied"].service
    )
    assert (
        "standard, strict: wait; recovery-only, none: refuse"
        == rows["unavailable + unavailable, evidence not complete"].user
    )


def test_page_has_not_drifted() -> None:
    """docs/errors.md says what the decision function does."""
    page = Path(__file__).parents[2] / "docs" / "errors.md"

    assert markdown() == page.read_text(encoding="utf-8")
