"""What has to be so: which keys answer, which requests are open, and what is in every container. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from schemas.identifiers import SERVICE_POLICY, PolicyState, Workload
from tests.model.containers import Container
from tests.model.policies import STANDS_IN, VAULTS, Answer, Policy

COOLING = 600.0  # seconds


class Expected(Enum):
    """What becomes of a person's read."""

    SERVED = auto()
    REFUSED = auto()
    REFUSED_SOON = auto()  # no clock has to move for it: the last probe may still be under way
    EITHER = auto()


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
class Model:
    """Hold it all; `now` is the clock's, the bounds are those that are published."""

    bound: float
    silent_bounds: Mapping[Workload, float]
    keep: float
    now: float = 0.0
    policies: dict[str, Policy] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)

    def answers(self, policy: Policy) -> list[Answer]:
        """Return how both root keys stand."""
        return [
            Answer.SILENT if vault in self.down else Answer.DENIED if key in policy.denied else Answer.OK
            for vault, key in zip(VAULTS, policy.keys, strict=True)
        ]

    def changed(self) -> None:
        """Follow what was done to keys and vaults."""
        for policy in self.policies.values():
            policy.stands(self.answers(policy), self.now)
        for request in self.requests.values():
            request.answered |= Answer.OK in self.answers(self.policies[request.policy])

    def crashed(self) -> None:
        """Note that every process has begun anew."""
        for policy in self.policies.values():
            policy.cold |= Answer.OK not in self.answers(policy)

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
        if policy.mode in STANDS_IN:
            return Expected.EITHER if policy.may_be_denied else Expected.SERVED
        return Expected.REFUSED if self._expired(policy, fresh) else Expected.EITHER

    def _expired(self, policy: Policy, fresh: bool) -> bool:
        """Tell whether nobody holds a key of a policy any more that root keys alone open."""
        until = self.silent_bounds[policy.workload] + (policy.silent_since or 0.0)
        return (policy.cold and fresh) or self.now > until

    def moved(self, policy: Policy, state: PolicyState) -> None:
        """Give a policy another state, now."""
        policy.state, policy.since = state, self.now

    def undecided(self, policy: Policy, *actions: str) -> list[Request]:
        """Return the open requests about a policy, or those for these actions."""
        of_policy = [each for each in self.requests.values() if each.policy == policy.name]
        return [each for each in of_policy if not actions or each.action in actions]

    def of(self, policy: Policy) -> Container | None:
        """Return a container that is under a policy for certain."""
        found = (each for each in self.containers.values() if {policy.name} == {each.policy, *each.wanted})
        return next(found, None)
