"""What has to be so: which keys answer, which requests are open, and what is in every mailbox. No I/O."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto

from schemas.identifiers import SERVICE_POLICY, PolicyState

VAULTS = ("east", "west")
COOLING = 600.0  # seconds


class Expected(Enum):
    """What becomes of a person's read."""

    SERVED = auto()
    REFUSED = auto()
    REFUSED_SOON = auto()  # no clock has to move for it: the last probe may still be under way
    EITHER = auto()


class Answer(Enum):
    """How a root key stands."""

    OK = auto()
    DENIED = auto()
    SILENT = auto()


@dataclass
class Request:
    """Hold what waits for signatures."""

    id: str
    action: str
    policy: str
    keys: tuple[str, str] | None = None
    signed: list[str] = field(default_factory=list)
    signed_at: float = 0.0
    cancelled: bool = False
    answered: bool = False  # a root key of the policy, since it was asked for


@dataclass
class Policy:
    """Hold a policy of the tenant, and what is known of how it stood."""

    name: str
    keys: tuple[str, str]
    state: PolicyState = PolicyState.ACTIVE
    before: PolicyState = PolicyState.ACTIVE  # a purge was asked for
    since: float = float("-inf")  # it has this state
    disabled: set[str] = field(default_factory=set)
    shut_since: float | None = None  # no root key answers, and one says no
    heard: bool = False  # the no was heard, and no root key has answered since
    ever_denied: bool = False
    lost: bool = False  # both said no since the last look

    @property
    def reference(self) -> str:
        """Return the policy's full name."""
        return f"acme/{self.name}"


@dataclass
class Box:
    """Hold a mailbox: what was acknowledged, what may be there besides, and the policies that it may be under."""

    address: str
    policy: str = SERVICE_POLICY
    acknowledged: Counter[bytes] = field(default_factory=Counter)
    besides: Counter[bytes] = field(default_factory=Counter)
    wanted: set[str] = field(default_factory=set)

    def holds(self, found: Counter[bytes]) -> bool:
        """Tell whether this is what has to be there: nothing lost, nothing changed, nothing twice."""
        return self.acknowledged <= found <= self.acknowledged | self.besides


@dataclass
class Model:
    """Hold it all; `now` is the clock's."""

    bound: float
    keep: float
    now: float = 0.0
    policies: dict[str, Policy] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)

    def answers(self, policy: Policy) -> list[Answer]:
        """Return how both root keys stand."""
        return [
            Answer.SILENT if vault in self.down else Answer.DENIED if key in policy.disabled else Answer.OK
            for vault, key in zip(VAULTS, policy.keys, strict=True)
        ]

    def changed(self) -> None:
        """Follow what was done to keys and vaults."""
        for policy in self.policies.values():
            found = self.answers(policy)
            if Answer.OK in found:
                policy.shut_since, policy.heard = None, False
            elif Answer.DENIED not in found:
                policy.shut_since = None
            elif policy.shut_since is None:
                policy.shut_since = self.now
            policy.ever_denied |= bool(policy.disabled)
            policy.lost |= found == [Answer.DENIED, Answer.DENIED]
        for request in self.requests.values():
            request.answered |= Answer.OK in self.answers(self.policies[request.policy])

    def expects(self, name: str, *, fresh: bool) -> Expected:
        """Say what becomes of a read under a policy, with a fresh process or one that may hold container keys."""
        if name == SERVICE_POLICY:
            return Expected.SERVED
        policy = self.policies[name]
        if policy.state is not PolicyState.ACTIVE:
            return Expected.REFUSED if fresh or self.now > policy.since + self.keep else Expected.EITHER
        if Answer.OK in self.answers(policy):
            return Expected.SERVED
        if policy.heard and fresh:
            return Expected.REFUSED
        if policy.shut_since is not None and self.now > policy.shut_since + self.bound:
            return Expected.REFUSED_SOON
        return Expected.EITHER if policy.ever_denied else Expected.SERVED

    def moved(self, policy: Policy, state: PolicyState) -> None:
        """Give a policy another state, now."""
        policy.state, policy.since = state, self.now

    def undecided(self, policy: Policy, *actions: str) -> list[Request]:
        """Return the open requests about a policy, or those for these actions."""
        of_policy = [each for each in self.requests.values() if each.policy == policy.name]
        return [each for each in of_policy if not actions or each.action in actions]

    def unhealthy(self, policy: Policy) -> bool:
        """Tell whether no root key answers."""
        return Answer.OK not in self.answers(policy)
