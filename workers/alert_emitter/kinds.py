"""The kinds of alerts, and what ends an episode of each. Pure: `docs/subscribing.md` shows this very table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from schemas.event import Event
from schemas.facts import AlertCleared, AlertRaised, HealthChanged, PolicyRestored, PolicyRevoked
from schemas.identifiers import Audience, PolicyHealth, PolicyState, Severity, Slot
from twinlock.custody.decision import ROOT_SLOTS, Outcomes, alerts_for
from twinlock.custody.health.verdicts import health_of
from twinlock.keys.ports import Outcome

DAY = 86400.0


class End(StrEnum):
    """What ends an episode; beside it, whoever raised an alert may say that it is over."""

    STANDING = "the root keys stand otherwise"
    ANSWERED = "a root key answers"
    RENEWED = "the custodian that told has renewed or dropped the key, or health changed, or a day is over"
    RESTORED = "the policy is restored"
    REVOKED = "the policy is revoked again, or a day is over"
    NO_LETTERS = "no dead letter is left"
    LOOKED = "a look at the key finds neither any more"
    CAUGHT_UP = "none of the policy's work is overdue any more"
    INTACT = "the audit log is found intact"
    QUIET = "a day without another one"


@dataclass(frozen=True, slots=True)
class Kind:
    """Describe a kind: how bad, for whom, and what ends it; `slots` where it is about one root key."""

    severity: Severity
    audiences: tuple[Audience, ...]
    end: End
    slots: tuple[Slot | None, ...] = (None,)


_CUSTOMER, _ENGINEERING = (Audience.CUSTOMER,), (Audience.ENGINEERING,)
_EITHER = _CUSTOMER + _ENGINEERING  # by whose doing it is
_HELD = (PolicyState.REVOKED, PolicyState.PURGING)  # a purge that is given up gives a revoked policy back as revoked
_UNKNOWN = Kind(Severity.WARNING, _ENGINEERING, End.QUIET)

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "policy-degraded": Kind(Severity.WARNING, _EITHER, End.STANDING),
        "policy-unhealthy": Kind(Severity.CRITICAL, _EITHER, End.STANDING),
        "key-revoked": Kind(Severity.WARNING, _CUSTOMER, End.STANDING, ROOT_SLOTS),
        "identity-failure": Kind(Severity.CRITICAL, _ENGINEERING, End.STANDING, ROOT_SLOTS),
        "corrupt-wrap": Kind(Severity.CRITICAL, _ENGINEERING, End.STANDING, ROOT_SLOTS),
        "availability-key-used": Kind(Severity.WARNING, _CUSTOMER, End.ANSWERED),
        "availability-key-failed": Kind(Severity.CRITICAL, _ENGINEERING, End.ANSWERED),
        "tik-refresh-failing": Kind(Severity.CRITICAL, _ENGINEERING, End.RENEWED),
        "tik-expiring": Kind(Severity.CRITICAL, _ENGINEERING, End.RENEWED),
        "key-expiring": Kind(Severity.WARNING, _EITHER, End.LOOKED, ROOT_SLOTS),
        "reencryption-overdue": Kind(Severity.WARNING, _ENGINEERING, End.CAUGHT_UP),
        "corrupt-item": Kind(Severity.CRITICAL, _ENGINEERING, End.QUIET),
        "corrupt-file": Kind(Severity.CRITICAL, _ENGINEERING, End.QUIET),
        "policy-revoked": Kind(Severity.CRITICAL, _CUSTOMER, End.RESTORED),
        "policy-restored": Kind(Severity.WARNING, _CUSTOMER, End.REVOKED),
        "recovery": Kind(Severity.WARNING, _EITHER, End.QUIET),
        "purge": Kind(Severity.CRITICAL, _CUSTOMER, End.QUIET),
        "approver-change": Kind(Severity.WARNING, _CUSTOMER, End.QUIET),
        "read-as-service": Kind(Severity.WARNING, _ENGINEERING, End.QUIET),
        "dead-letter": Kind(Severity.WARNING, _ENGINEERING, End.NO_LETTERS),
        "audit-broken": Kind(Severity.CRITICAL, _ENGINEERING, End.INTACT),
    }
)


@dataclass(frozen=True, slots=True)
class Topic:
    """Name what alerts are about: of each, one episode at most goes on at a time."""

    kind: str
    audience: Audience
    tenant: str
    policy: str | None = None
    slot: Slot | None = None

    @property
    def key(self) -> str:
        """Return the name as one text; none of its parts has a slash."""
        return "/".join((self.tenant, self.policy or "", self.slot or "", self.audience, self.kind))

    @property
    def end(self) -> End:
        """Return what ends an episode; of a kind that nobody described, time does."""
        return KINDS.get(self.kind, _UNKNOWN).end


@dataclass(frozen=True, slots=True)
class Situation:
    """Hold what an open alert of a policy is looked at against; of a `noticed` root key more is to be known."""

    outcomes: Outcomes
    state: PolicyState
    noticed: frozenset[Slot] = frozenset()
    overdue: bool = False


def topic_of(event: AlertRaised | AlertCleared) -> Topic:
    """Return what an event is about."""
    return Topic(event.kind, event.audience, event.tenant, event.policy, event.slot)


def ended_by(event: Event) -> list[Topic]:
    """Return every topic whose episode an event ends, if there is one."""
    if isinstance(event, AlertCleared):
        return [topic_of(event)]
    if isinstance(event, PolicyRestored):
        return list(_topics(event.tenant, event.policy, End.RESTORED))
    if isinstance(event, PolicyRevoked):
        return list(_topics(event.tenant, event.policy, End.REVOKED))
    return _ended_by_health(event) if isinstance(event, HealthChanged) else []


def _ended_by_health(event: HealthChanged) -> list[Topic]:
    a, b = (Outcome(event.slots.get(slot, Outcome.OK)) for slot in ROOT_SLOTS)
    situation = Situation((a, b), PolicyState.ACTIVE)
    found = [
        topic for topic in _topics(event.tenant, event.policy, End.STANDING, End.ANSWERED) if is_over(topic, situation)
    ]
    renewed = () if event.health is PolicyHealth.UNHEALTHY else _topics(event.tenant, event.policy, End.RENEWED)
    return [*found, *renewed]


def is_over(topic: Topic, situation: Situation) -> bool:
    """Tell whether what a topic of a policy is about does not hold any more, as far as the database can tell."""
    if situation.state is PolicyState.PURGED and topic.end not in (End.QUIET, End.REVOKED):
        return True
    if topic.end is End.STANDING:
        held = {(alert.kind, alert.audience, alert.slot) for alert in alerts_for(situation.outcomes)}
        return (topic.kind, topic.audience, topic.slot) not in held
    if topic.end is End.ANSWERED:
        return health_of(situation.outcomes) is not PolicyHealth.UNHEALTHY
    if topic.end is End.LOOKED:
        return topic.slot not in situation.noticed
    if topic.end is End.CAUGHT_UP:
        return not situation.overdue
    return topic.end is End.RESTORED and situation.state not in _HELD


def quiet_seconds(topic: Topic) -> float | None:
    """Return after how long without a repetition an episode ends by itself, or none where it never does."""
    return DAY if topic.end in (End.RENEWED, End.REVOKED, End.QUIET) else None


def _topics(tenant: str, policy: str, *ends: End) -> Iterator[Topic]:
    for name, kind in KINDS.items():
        if kind.end in ends:
            for audience in kind.audiences:
                for slot in kind.slots:
                    yield Topic(name, audience, tenant, policy, slot)
