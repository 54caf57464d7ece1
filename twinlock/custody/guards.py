"""What keeps us from hammering a vault: a breaker and a rate limit for each, and a budget for each tenant.

Whoever is cut off here is told `Unavailable`, which does not count (law 5): it says nothing about the key, replaces no
verdict, and opens nothing. A breaker is open for a vault, but lets one call for each key through in every pause, so
that the evidence of each policy goes on to gather, and the first answer closes it again.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, StrEnum
from typing import NoReturn

from twinlock.custody.observing import Observer, Unobserved
from twinlock.custody.operations import Account, Operation, Tally
from twinlock.custody.port import Asker, InitiatorClass
from twinlock.custody.settings import GuardSettings
from twinlock.keys.ports import Clock, Outcome, Unavailable, VaultFailure
from twinlock.keys.uris import vault_of

log = logging.getLogger(__name__)

CLASSIFIER = "guards/1"


class Guard(StrEnum):
    """Name what holds a call back; all but the breaker do so though the vault may well answer."""

    ASKED_TO_WAIT = "asked to wait"
    BREAKER = "breaker"
    BUDGET = "budget"
    RATE_LIMIT = "rate limit"


class Calling(Enum):
    """On whose behalf vaults are called: people, the service, or the custodian itself, for the sake of its bound."""

    USER = "user"
    SERVICE = "service"
    CUSTODIAN = "custodian"


_calling: ContextVar[Calling] = ContextVar("calling", default=Calling.CUSTODIAN)


@contextmanager
def on_behalf_of(asker: Asker) -> Iterator[None]:
    """Have what the block calls count as this asker's."""
    token = _calling.set(Calling.USER if asker.initiator.kind is InitiatorClass.USER else Calling.SERVICE)
    try:
        yield
    finally:
        _calling.reset(token)


class Bucket:
    """Hold up to `burst` tokens, filled at `rate` a second."""

    def __init__(self, clock: Clock, rate: float, burst: float) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled = clock.monotonic()

    def has(self, reserve: float = 0.0) -> bool:
        """Say whether there is a token that leaves no less than this part of the bucket."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        return self._tokens - 1 >= reserve * self._burst

    def take(self, reserve: float = 0.0) -> bool:
        """Take a token, unless that would leave less than this part of the bucket."""
        if not self.has(reserve):
            return False
        self._tokens -= 1
        return True


class Breaker:
    """Open after some failures in a row; while it is open one call for each key may try in every pause."""

    def __init__(self, clock: Clock, vault: str, failures: int, pause: float) -> None:
        self._clock = clock
        self._vault = vault
        self._most = failures
        self._pause = pause
        self._failures = 0
        self._tried: dict[str, float] = {}

    @property
    def open(self) -> bool:
        """Say whether the vault counts as silent."""
        return self._failures >= self._most

    def lets(self, key: str) -> bool:
        """Say whether a call for a key may go out, and take note that it does."""
        if not self.open:
            return True
        now = self._clock.monotonic()
        if now - self._tried.get(key, -self._pause) < self._pause:
            return False
        self._tried[key] = now
        return True

    def failed(self) -> None:
        """Note a call that the vault did not answer."""
        self._failures += 1
        if self._failures == self._most:
            log.warning(
                "vault %s does not answer: each key is tried every %g s until it does", self._vault, self._pause
            )

    def answered(self) -> None:
        """Note an answer, whatever it says of the key."""
        if self.open:
            log.warning("vault %s answers again", self._vault)
        self._failures = 0
        self._tried.clear()

    def undecided(self, key: str) -> None:
        """Note a call that was given up: it said nothing, so another one may try at once."""
        self._tried.pop(key, None)


class Guards:
    """Let calls of vaults through, each counted in `tally`, or cut them off."""

    def __init__(self, clock: Clock, settings: GuardSettings, observer: Observer | None = None) -> None:
        self.tally = Tally(clock)
        self._observer = observer or Unobserved()
        self._clock = clock
        self._settings = settings
        self._breakers: dict[str, Breaker] = {}
        self._asked_to_wait: dict[str, float] = {}  # until when, on the monotonic clock
        self._rates: defaultdict[str, Bucket] = defaultdict(
            lambda: Bucket(clock, settings.vault_rate, settings.vault_burst)
        )
        self._budgets: defaultdict[str, Bucket] = defaultdict(
            lambda: Bucket(clock, settings.tenant_rate, settings.tenant_burst)
        )

    def silent(self) -> list[str]:
        """Name the vaults that do not answer."""
        return sorted(vault for vault, breaker in self._breakers.items() if breaker.open)

    @contextmanager
    def around(self, uri: str, account: Account, operation: Operation) -> Iterator[None]:
        """Guard the one call of a vault that the block makes; raise `Unavailable` where it must not be made now."""
        vault = vault_of(uri)
        breaker = self._breaker(vault)
        self._admit(vault, breaker, uri, account.tenant_id)
        self.tally.note(vault, account, operation)
        start, outcome = self._clock.monotonic(), "cancelled"
        try:
            yield
            breaker.answered()
            outcome = Outcome.OK.value
        except Unavailable as silence:
            if silence.counts:
                breaker.failed()
            if silence.retry_after:
                self._leave_alone(vault, silence.retry_after)
            outcome = silence.outcome.value
            raise
        except VaultFailure as failure:
            breaker.answered()
            outcome = failure.outcome.value
            raise
        except BaseException:
            breaker.undecided(uri)
            raise
        finally:
            self._observer.called(vault, operation, outcome, self._clock.monotonic() - start)

    def _admit(self, vault: str, breaker: Breaker, uri: str, tenant_id: str) -> None:
        who = _calling.get()
        # Probes end what is denied: whoever has a vault ask us to wait could put off the end of a neighbour's key.
        if who is not Calling.CUSTODIAN and self._clock.monotonic() < self._asked_to_wait.get(vault, 0.0):
            self._cut_off(vault, uri, Guard.ASKED_TO_WAIT, f"vault {vault} has asked not to be called for a while")
        if not breaker.lets(uri):
            self._cut_off(vault, uri, Guard.BREAKER, f"vault {vault} did not answer of late")
        reserve = self._settings.reserve if who is Calling.SERVICE else 0.0
        # For the same reason nobody's calls may spend what probes need.
        budget = None if who is Calling.CUSTODIAN else self._budgets[tenant_id]
        if budget is not None and not budget.has(reserve):
            breaker.undecided(uri)
            self._cut_off(vault, uri, Guard.BUDGET, "the tenant's budget of vault calls is spent for the moment")
        if not self._rates[vault].take(reserve):
            breaker.undecided(uri)
            self._cut_off(vault, uri, Guard.RATE_LIMIT, f"vault {vault} is called as often as it may be")
        if budget is not None:
            budget.take(reserve)  # a call that the vault's rate holds back costs its tenant's people nothing

    def _leave_alone(self, vault: str, seconds: float) -> None:
        # Bounded: no evidence of an outage would ever gather (law 5) of a vault that asks for a year.
        self._asked_to_wait[vault] = self._clock.monotonic() + min(seconds, self._settings.longest_wait)

    def _breaker(self, vault: str) -> Breaker:
        if vault not in self._breakers:
            settings = self._settings
            self._breakers[vault] = Breaker(self._clock, vault, settings.breaker_failures, settings.breaker_pause)
        return self._breakers[vault]

    def _cut_off(self, vault: str, uri: str, guard: Guard, detail: str) -> NoReturn:
        self._observer.held_back(vault, guard.value)
        raise Unavailable(detail, uri=uri, raw=guard.value, classifier=CLASSIFIER, counts=False)
