"""A policy of the tenant: how its root keys stand, and what the fleet may know of that. No I/O."""

from dataclasses import dataclass, field
from enum import Enum, auto

from schemas.identifiers import AvailabilityMode, PolicyState, Workload

VAULTS = ("east", "west")
STANDS_IN = (AvailabilityMode.STANDARD, AvailabilityMode.STRICT)  # for root keys whose vaults are silent


class Answer(Enum):
    """How a root key stands."""

    OK = auto()
    DENIED = auto()
    SILENT = auto()


def _nothing_heard() -> list[set[Answer]]:
    return [{Answer.OK} for _ in VAULTS]


@dataclass
class Policy:
    """Hold a policy, and what is known of how it stood."""

    name: str
    mode: AvailabilityMode
    workload: Workload
    keys: tuple[str, str]
    state: PolicyState = PolicyState.ACTIVE
    before: PolicyState = PolicyState.ACTIVE  # a purge was asked for
    since: float = float("-inf")  # it has this state
    disabled: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    stood: list[Answer] = field(default_factory=lambda: [Answer.OK] * len(VAULTS))
    changes: int = 0  # of how its root keys stand
    # The last definite answer of each root key as the fleet may remember it: more than one until somebody looked.
    memory: list[set[Answer]] = field(default_factory=_nothing_heard)
    shut_since: float | None = None  # no root key answers, and one says no, or said so before its vault fell silent
    silent_since: float | None = None  # no root key answers
    cold: bool = False  # every process has begun since a root key answered
    heard: bool = False  # the no was heard, and no root key has answered since
    lost: bool = False  # both said no since the last look
    stood_in: bool = False  # the availability key has served since a root key answered
    ever: set[Answer] = field(default_factory=set)  # with which no root key answered
    recovering: bool = False  # two approvers have signed for a recovery, once
    revocations: int = 0

    @property
    def reference(self) -> str:
        """Return the policy's full name."""
        return f"acme/{self.name}"

    @property
    def denied(self) -> set[str]:
        """Return the root keys that their owner has taken away."""
        return self.disabled | self.deleted

    @property
    def may_be_denied(self) -> bool:
        """Tell whether a root key may be remembered as denied."""
        return any(Answer.DENIED in each for each in self.memory)

    @property
    def is_held(self) -> bool:
        """Tell whether it is revoked, a purge or not."""
        purging = self.state is PolicyState.PURGING and self.before is PolicyState.REVOKED
        return purging or self.state is PolicyState.REVOKED

    def stands(self, found: list[Answer], now: float) -> None:
        """Follow what was done to its root keys and their vaults."""
        self.changes += found != self.stood
        self.stood = found
        for memory, answer in zip(self.memory, found, strict=True):
            memory |= {answer} - {Answer.SILENT}
        if Answer.OK in found:
            self.shut_since, self.silent_since = None, None
            self.heard = self.cold = self.stood_in = False
            return
        self.ever |= {Answer.DENIED} if Answer.DENIED in found else {Answer.SILENT}
        self.silent_since = now if self.silent_since is None else self.silent_since
        if Answer.DENIED not in found and {Answer.DENIED} not in self.memory:
            self.shut_since = None
        elif self.shut_since is None:
            self.shut_since = now
        self.lost |= found == [Answer.DENIED, Answer.DENIED]

    def recovered(self, keys: tuple[str, str]) -> None:
        """Put it onto new root keys, of which nobody has heard anything."""
        self.keys, self.memory = keys, _nothing_heard()
        self.disabled, self.deleted = set(), set()

    def may_have_stood_in(self) -> bool:
        """Tell whether the availability key may ever have opened the policy key, for whatever."""
        allowed = {AvailabilityMode.STANDARD: set(Answer), AvailabilityMode.STRICT: {Answer.SILENT}}
        return bool(self.ever & allowed.get(self.mode, set())) or self.recovering

    def folded(self) -> list[list[Answer]]:
        """Return what each root key may stand at by memory: silence does not undo a denial (law 4)."""
        return [
            [answer]
            if answer is not Answer.SILENT
            else [Answer.DENIED if each is Answer.DENIED else Answer.SILENT for each in memory]
            for memory, answer in zip(self.memory, self.stood, strict=True)
        ]

    def known(self, pair: tuple[Answer, ...]) -> None:
        """Note that this is what the fleet has heard by now."""
        self.memory = [{Answer.DENIED if each is Answer.DENIED else Answer.OK} for each in pair]
