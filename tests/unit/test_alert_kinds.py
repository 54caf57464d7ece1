"""The table of alerts: every alert that can be raised is described, and ends."""

import re
from itertools import product
from pathlib import Path

import pytest

from schemas.facts import AlertCleared, HealthChanged, PolicyRestored, PolicyRevoked
from schemas.identifiers import Audience, PolicyHealth, PolicyState, Slot
from twinlock.custody.ahead import EXPIRING, FAILING
from twinlock.custody.decision import AVAILABILITY_KEY_FAILED, AVAILABILITY_KEY_USED, Alert, Outcomes, alerts_for
from twinlock.custody.health.verdicts import health_of
from twinlock.keys.ports import Outcome
from workers.alert_emitter.kinds import DAY, KINDS, End, Situation, Topic, ended_by, is_over, quiet_seconds

PAGE = Path(__file__).parents[2] / "docs" / "subscribing.md"
STANDINGS: list[Outcomes] = [(a, b) for a in Outcome for b in Outcome]
ALERTS = {alert for standing in STANDINGS for alert in alerts_for(standing)}
KNOWN = sorted({*ALERTS, AVAILABILITY_KEY_USED, AVAILABILITY_KEY_FAILED, FAILING, EXPIRING}, key=repr)


def topic(alert: Alert) -> Topic:
    return Topic(alert.kind, alert.audience, "acme", "p", alert.slot)


def changed(standing: Outcomes) -> HealthChanged:
    slots = {Slot.A: standing[0].value, Slot.B: standing[1].value}
    health = health_of(standing)
    return HealthChanged(policy="p", version=2, tenant="acme", health=health, was=PolicyHealth.HEALTHY, slots=slots)


@pytest.mark.parametrize("alert", KNOWN, ids=lambda alert: f"{alert.kind}-{alert.audience}-{alert.slot}")
def test_described(alert: Alert) -> None:
    """Whatever a custodian raises about root keys has a kind, with that severity and that audience."""
    kind = KINDS[alert.kind]

    assert alert.severity is kind.severity
    assert alert.audience in kind.audiences
    assert alert.slot in kind.slots


@pytest.mark.parametrize("standing", STANDINGS, ids=lambda standing: f"{standing[0]}-{standing[1]}")
def test_health_ends_what_does_not_hold(standing: Outcomes) -> None:
    """A change of health ends exactly the alerts about root keys that do not hold as they stand now."""
    ended = ended_by(changed(standing))

    assert {topic(alert) for alert in ALERTS} - {topic(alert) for alert in alerts_for(standing)} == {
        each for each in ended if each.end is End.STANDING
    }
    answers = Outcome.OK in standing
    assert answers == (topic(AVAILABILITY_KEY_USED) in ended) == (topic(FAILING) in ended)


@pytest.mark.parametrize("standing", STANDINGS, ids=lambda standing: f"{standing[0]}-{standing[1]}")
def test_a_look_says_the_same(standing: Outcomes) -> None:
    """What a change of health ends, a look at the same standing finds over, and the other way round."""
    situation = Situation(standing, PolicyState.REVOKED)
    seen = {topic(alert) for alert in KNOWN if is_over(topic(alert), situation)}

    assert {each for each in ended_by(changed(standing)) if each.end is not End.RENEWED} == seen


def test_healthy_leaves_nothing() -> None:
    """Once both root keys answer no alert about them is left, for anybody."""
    assert {topic(alert) for alert in KNOWN} == set(ended_by(changed((Outcome.OK, Outcome.OK))))


def test_kill_switch() -> None:
    """Lifting a revocation ends its alert, and a revocation that of the lifting; a purge that is asked for does not."""
    about = {"policy": "p", "version": 3, "tenant": "acme", "revocation": 2}
    revoked, restored = (Topic(kind, Audience.CUSTOMER, "acme", "p") for kind in ("policy-revoked", "policy-restored"))

    assert [revoked] == ended_by(PolicyRestored.model_validate(about))
    assert [restored] == ended_by(PolicyRevoked.model_validate(about))
    assert [False, False, True, True] == [
        is_over(revoked, Situation((Outcome.OK, Outcome.OK), state))
        for state in (PolicyState.REVOKED, PolicyState.PURGING, PolicyState.ACTIVE, PolicyState.PURGED)
    ]


def test_cleared() -> None:
    """Who raised an alert may say of any kind that it is over, and of nothing else."""
    event = AlertCleared(kind="something-new", audience=Audience.ENGINEERING, tenant="acme", slot=Slot.B)

    assert [Topic("something-new", Audience.ENGINEERING, "acme", None, Slot.B)] == ended_by(event)


@pytest.mark.parametrize("kind", [*KINDS, "something-new"])
def test_none_for_ever(kind: str) -> None:
    """Every kind ends by a look at what it is about, or by time; so does one that nobody described."""
    about = Topic(kind, Audience.ENGINEERING, "acme", "p")
    looked_at = about.end not in (End.RENEWED, End.REVOKED, End.QUIET)

    assert looked_at == (quiet_seconds(about) is None)
    assert quiet_seconds(about) in (None, DAY)


def test_keys_differ() -> None:
    """No two topics share their key, whatever their names are."""
    names = ("a", "a.b", "a-b")
    topics = [
        Topic(kind, audience, tenant, policy, slot)
        for kind, audience, tenant, policy, slot in product(
            names, Audience, names, (None, *names), (None, Slot.A, Slot.B)
        )
    ]

    assert len(topics) == len({each.key for each in topics})


def test_page() -> None:
    """The page for subscribers lists every kind as it is."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| ([\w, ]+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    expected = [
        (name, kind.severity.value, ", ".join(audience.value for audience in kind.audiences), kind.end.value)
        for name, kind in KINDS.items()
    ]

    assert expected == rows
