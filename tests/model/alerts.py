"""Which alerts have to be open while root keys stand so. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

from schemas.identifiers import AvailabilityMode, PolicyState
from tests.model.policies import VAULTS, Answer, Policy

USED, HELD = "availability-key-used", "policy-revoked"
STANDING = ("key-revoked", "policy-degraded", "policy-unhealthy")
# What these tell of happens, and they end by themselves after a day. Every other kind would be a fault of the fleet.
TOLD = ("recovery", "purge", "policy-restored", "approver-change")

Topic = tuple[str, str | None]  # kind, slot


@dataclass(frozen=True)
class Alert:
    """Hold an alert as it is stored."""

    id: str
    kind: str
    slot: str | None
    audience: str
    is_open: bool

    @property
    def topic(self) -> Topic:
        """Return what it is about."""
        return self.kind, self.slot


@dataclass
class Episodes:
    """Hold the alerts of a policy that were open when they were compared last."""

    changes: int = 0
    open: frozenset[str] = field(default_factory=frozenset)


def standing(pair: Iterable[Answer]) -> frozenset[Topic]:
    """Return what is told while root keys stand so."""
    found = list(pair)
    topics: set[Topic] = {
        ("key-revoked", slot) for slot, each in zip("ab", found, strict=True) if each is Answer.DENIED
    }
    good = found.count(Answer.OK)
    if good < len(VAULTS):
        topics.add(("policy-degraded" if good else "policy-unhealthy", None))
    return frozenset(topics)


def matching(policy: Policy, found: Iterable[Alert]) -> tuple[Answer, ...] | None:
    """Return how the root keys stand as far as open alerts tell, or none where these can't be right."""
    told = {each.topic for each in found if each.is_open}
    if ((HELD, None) in told) is not policy.is_held:
        return None
    used = (USED, None) in told
    standing_told = {topic for topic in told if topic[0] in STANDING}
    for pair in product(*policy.folded()):
        if standing(pair) == standing_told and _may(policy, pair, used):
            return pair
    return None


def ended(policy: Policy, found: Iterable[Alert]) -> bool:
    """Tell whether the alerts of a policy that serves nobody can be right: of one that is purged, none is open."""
    told = {each.kind for each in found if each.is_open}
    if policy.state is PolicyState.PURGED:
        return not told & {*STANDING, USED, HELD}
    return (HELD in told) is policy.is_held


def _may(policy: Policy, pair: tuple[Answer, ...], used: bool) -> bool:
    """Tell whether it may be told, or not be told, that the availability key was used."""
    if not used:
        return not policy.stood_in
    allowed = {
        AvailabilityMode.STANDARD: True,
        AvailabilityMode.STRICT: Answer.SILENT in policy.ever,
    }
    return Answer.OK not in pair and allowed.get(policy.mode, False)
