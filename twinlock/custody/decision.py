"""The decision: may a policy key be opened now, and by which key? Pure, total, symmetric in the two slots.

Nothing else in the program decides this. The rules are evaluated from the top down.
`docs/errors.md` and `twinlock errors` print what the function really does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations_with_replacement, groupby

from schemas.identifiers import Audience, AvailabilityMode, PolicyState, Severity, Slot
from twinlock.custody.port import InitiatorClass
from twinlock.keys.ports import Outcome

Outcomes = tuple[Outcome, Outcome]
ROOT_SLOTS = (Slot.A, Slot.B)


class Result(StrEnum):
    """What a call gets."""

    SERVE = "serve"
    SERVE_BY_AVAILABILITY_KEY = "serve by the availability key"
    WAIT = "wait"
    REFUSE = "refuse"


class Reason(StrEnum):
    """Which rule decided."""

    NOT_ACTIVE = "the policy is revoked, purging or purged"
    ROOT_KEY = "a root key answers"
    CORRUPT = "a root key's answer does not decrypt or does not match"
    MISCONFIGURED = "our own access to a root key is wrong"
    UNCLEAR = "it can't be told yet why a root key does not answer"
    DENIED = "the customer denied the use of the root keys"
    UNAVAILABLE = "the vault of neither root key answers"
    EVIDENCE = "neither vault answers, and the evidence for that is not complete yet"
    AVAILABILITY_KEY = "the availability key is needed, but it is absent, destroyed or its vault fails"


HINTS = {
    Reason.NOT_ACTIVE: "a revocation is lifted by `twinlock policy restore`; a purge is final",
    Reason.ROOT_KEY: "",
    Reason.CORRUPT: "the provider's engineers have been told; enable the other root key if it is disabled",
    Reason.MISCONFIGURED: "the provider's engineers have been told; check both root keys with `twinlock key probe`",
    Reason.UNCLEAR: "check both root keys with `twinlock key probe`",
    Reason.DENIED: "enable a root key in its vault again, or request a recovery onto new ones",
    Reason.UNAVAILABLE: "try again when one of the two vaults answers",
    Reason.EVIDENCE: "try again in a few seconds",
    Reason.AVAILABILITY_KEY: "try again when one of the two vaults answers",
}


class AvailabilityKeyState(StrEnum):
    """How it stands with a policy's availability key; `failed` is known only after its vault was asked."""

    PRESENT = "present"
    ABSENT = "absent"
    DESTROYED = "destroyed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Say whether each slot's failures prove it unavailable, and whether an independent witness answers (law 5)."""

    a: bool = False
    b: bool = False
    witness: bool = False

    @property
    def complete(self) -> bool:
        """Say whether the availability key may open for unavailability."""
        return self.a and self.b and self.witness


@dataclass(frozen=True, slots=True)
class Alert:
    """Name an alert; the same alert that held before is no news."""

    kind: str
    severity: Severity
    audience: Audience
    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Say what a call gets, why, and whom to tell."""

    result: Result
    reason: Reason
    alerts: tuple[Alert, ...] = ()

    @property
    def hint(self) -> str:
        """Name the fix, where there is one."""
        return HINTS[self.reason]

    @property
    def once(self) -> bool:
        """Say that the key serves this one call and is never cached: the customer said no (law 7)."""
        return self.result is Result.SERVE_BY_AVAILABILITY_KEY and self.reason is Reason.DENIED


@dataclass(frozen=True, slots=True)
class _Grants:
    unavailable: frozenset[InitiatorClass]
    denied: frozenset[InitiatorClass]


_ALL = frozenset(InitiatorClass)
_SERVICE = frozenset({InitiatorClass.SERVICE})
_NOBODY: frozenset[InitiatorClass] = frozenset()

_GRANTS = {
    AvailabilityMode.STANDARD: _Grants(unavailable=_ALL, denied=_SERVICE),
    AvailabilityMode.STRICT: _Grants(unavailable=_ALL, denied=_NOBODY),
    AvailabilityMode.RECOVERY_ONLY: _Grants(unavailable=_NOBODY, denied=_NOBODY),
    AvailabilityMode.NONE: _Grants(unavailable=_NOBODY, denied=_NOBODY),
}

# What must never open the availability key, in the order in which it decides.
_VETOES = (
    (Outcome.CORRUPT, Reason.CORRUPT),
    (Outcome.MISCONFIGURED, Reason.MISCONFIGURED),
    (Outcome.UNCLEAR, Reason.UNCLEAR),
)

_SLOT_ALERTS = {
    Outcome.DENIED: ("key-revoked", Severity.WARNING, Audience.CUSTOMER),
    Outcome.MISCONFIGURED: ("identity-failure", Severity.CRITICAL, Audience.ENGINEERING),
    Outcome.CORRUPT: ("corrupt-wrap", Severity.CRITICAL, Audience.ENGINEERING),
}

AVAILABILITY_KEY_USED = Alert("availability-key-used", Severity.WARNING, Audience.CUSTOMER)
AVAILABILITY_KEY_FAILED = Alert("availability-key-failed", Severity.CRITICAL, Audience.ENGINEERING)


def decide(
    *,
    state: PolicyState,
    mode: AvailabilityMode,
    initiator: InitiatorClass,
    slots: Outcomes,
    evidence: Evidence,
    availability: AvailabilityKeyState,
) -> Decision:
    """Decide one call; `slots` are what root keys a and b came to, folded with memory by `remember`."""
    if state is not PolicyState.ACTIVE:
        return Decision(Result.REFUSE, Reason.NOT_ACTIVE)
    alerts = alerts_for(slots)
    if Outcome.OK in slots:
        return Decision(Result.SERVE, Reason.ROOT_KEY, alerts)
    for outcome, reason in _VETOES:
        if outcome in slots:
            return Decision(Result.REFUSE, reason, alerts)
    reason = Reason.DENIED if Outcome.DENIED in slots else Reason.UNAVAILABLE
    return _by_mode(reason, initiator in _granted(mode, reason), evidence, availability, alerts)


def _granted(mode: AvailabilityMode, reason: Reason) -> frozenset[InitiatorClass]:
    grants = _GRANTS[mode]
    return grants.denied if reason is Reason.DENIED else grants.unavailable


def _by_mode(
    reason: Reason, granted: bool, evidence: Evidence, availability: AvailabilityKeyState, alerts: tuple[Alert, ...]
) -> Decision:
    if not granted:
        return Decision(Result.REFUSE, reason, alerts)
    if reason is Reason.UNAVAILABLE and not evidence.complete:
        return Decision(Result.WAIT, Reason.EVIDENCE, alerts)
    if availability is not AvailabilityKeyState.PRESENT:
        return Decision(Result.REFUSE, Reason.AVAILABILITY_KEY, (*alerts, AVAILABILITY_KEY_FAILED))
    return Decision(Result.SERVE_BY_AVAILABILITY_KEY, reason, (*alerts, AVAILABILITY_KEY_USED))


def alerts_for(slots: Outcomes) -> tuple[Alert, ...]:
    """Return every alert that holds while the root keys stand so."""
    found = [
        Alert(*_SLOT_ALERTS[outcome], slot)
        for slot, outcome in zip(ROOT_SLOTS, slots, strict=True)
        if outcome in _SLOT_ALERTS
    ]
    failing = [outcome for outcome in slots if outcome is not Outcome.OK]
    if len(failing) == 1:
        found.append(Alert("policy-degraded", Severity.WARNING, _audience(failing)))
    elif failing:
        found.append(Alert("policy-unhealthy", Severity.CRITICAL, _audience(failing)))
    return tuple(found)


def _audience(failing: Sequence[Outcome]) -> Audience:
    theirs = {Outcome.DENIED, Outcome.UNAVAILABLE}
    return Audience.CUSTOMER if theirs.issuperset(failing) else Audience.ENGINEERING


def remember(definite: Outcome | None, current: Outcome) -> Outcome:
    """Fold what a root key came to now with its last definite verdict (law 4).

    A `Denied` or `Corrupt` holds through everything that is not definite itself: cutting the network, or our
    credential, never undoes it. Only the key's own good answer does.
    """
    held = definite in (Outcome.DENIED, Outcome.CORRUPT)
    vague = current in (Outcome.UNAVAILABLE, Outcome.UNCLEAR, Outcome.MISCONFIGURED)
    return definite if definite is not None and held and vague else current


@dataclass(frozen=True, slots=True)
class Row:
    """Show one row of the decision table as it runs; a cell that depends on the mode lists the modes."""

    situation: str
    user: str
    service: str
    reason: str
    alerts: tuple[str, ...]


def table() -> Sequence[Row]:
    """Return the whole decision table, computed by the function itself."""
    return tuple(_rows())


def _rows() -> Iterator[Row]:
    ok, denied, unavailable = ((o, o) for o in (Outcome.OK, Outcome.DENIED, Outcome.UNAVAILABLE))
    for state in PolicyState:
        if state is not PolicyState.ACTIVE:
            yield _row(f"policy {state.value}", ok, state=state)
    for pair in combinations_with_replacement(Outcome, 2):
        yield _row(" + ".join(pair), pair)
    yield _row("unavailable + unavailable, evidence not complete", unavailable, evidence=Evidence())
    for pair in (denied, unavailable):
        for availability in list(AvailabilityKeyState)[1:]:
            yield _row(f"{' + '.join(pair)}, availability key {availability.value}", pair, availability=availability)


def _row(
    situation: str,
    slots: Outcomes,
    state: PolicyState = PolicyState.ACTIVE,
    evidence: Evidence = Evidence(a=True, b=True, witness=True),  # frozen: sharing it is harmless
    availability: AvailabilityKeyState = AvailabilityKeyState.PRESENT,
) -> Row:
    decisions = {
        (initiator, mode): decide(
            state=state, mode=mode, initiator=initiator, slots=slots, evidence=evidence, availability=availability
        )
        for initiator in InitiatorClass
        for mode in AvailabilityMode
    }
    user, service = (
        _cell({mode: decisions[initiator, mode].result for mode in AvailabilityMode}) for initiator in InitiatorClass
    )
    shown = decisions[InitiatorClass.SERVICE, AvailabilityMode.STANDARD]
    return Row(situation, user, service, shown.reason.value, tuple(dict.fromkeys(alert.kind for alert in shown.alerts)))


def _cell(by_mode: dict[AvailabilityMode, Result]) -> str:
    if len(set(by_mode.values())) == 1:
        return next(iter(by_mode.values())).value
    groups = groupby(by_mode, key=lambda mode: by_mode[mode])
    return "; ".join(f"{', '.join(modes)}: {result.value}" for result, modes in groups)
