"""Refresh ahead: unwrap the policy keys that live for long again before they expire, and tell in time where that fails.

An episode begins with a refresh that neither renews nor evicts, and ends with one that does, or with the key. In each
of them either alert is raised once, and cleared at the end.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from schemas.identifiers import Audience, PolicyState, Severity
from twinlock.custody.attempt import Attempts
from twinlock.custody.cache import CacheLine, OpenedBy
from twinlock.custody.decision import Alert
from twinlock.custody.fate import Fate
from twinlock.custody.health.examining import Examiner
from twinlock.custody.health.verdicts import clear_alerts, raise_alerts
from twinlock.custody.policies import Policy
from twinlock.custody.settings import CustodySettings
from twinlock.errors import NotFound
from twinlock.keys.ports import Clock
from twinlock.store.unit import Cause, Store, Unit, new_id

log = logging.getLogger(__name__)

FAILING = Alert("tik-refresh-failing", Severity.CRITICAL, Audience.ENGINEERING)
EXPIRING = Alert("tik-expiring", Severity.CRITICAL, Audience.ENGINEERING)

_Name = tuple[str, int]  # policy, generation of its key
_Telling = Callable[[Unit, Policy, Iterable[Alert]], None]


@dataclass(slots=True)
class _Plan:
    """Hold when a key is refreshed next, since when that fails, and what was told of it."""

    due: float
    failing_since: float | None = None
    told: frozenset[Alert] = frozenset()


class RefreshAhead:
    """Look after the cached keys whose life is longer than the window before its end."""

    def __init__(
        self, store: Store, clock: Clock, settings: CustodySettings, examiner: Examiner, attempts: Attempts, rng: Random
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._examiner = examiner
        self._attempts = attempts
        self._rng = rng
        self._plans: dict[_Name, _Plan] = {}

    async def run(self) -> None:
        """Refresh for ever; the caller cancels."""
        while True:
            await self._clock.sleep(self._settings.refresh_pause)
            await self.refresh_due()

    async def refresh_due(self) -> None:
        """Refresh every key whose time has come; what has expired is wiped by the same look."""
        lines = {
            (line.policy_id, line.generation): line
            for line in self._attempts.cache.lines()
            if line.opened_by is OpenedBy.ROOT_KEY and self._settings.refreshes_ahead(line.ttl)
        }
        for name in self._plans.keys() - lines.keys():
            await self._end(name)
        for name, line in lines.items():
            plan = self._plans.setdefault(name, self._planned(line))
            if plan.due <= self._clock.monotonic():
                await self._refresh(line, plan)

    def _planned(self, line: CacheLine) -> _Plan:
        # Many keys that were opened in the same moment must not all be asked for in the same moment.
        jitter = self._rng.uniform(0, self._settings.refresh_jitter)
        return _Plan(line.expires - self._settings.refresh_ahead + jitter)

    async def _refresh(self, line: CacheLine, plan: _Plan) -> None:
        outcome = await self._outcome(line)
        log.info("policy %s, key %d: refreshed ahead: %s", line.policy_id, line.generation, outcome.value)
        if outcome is not Fate.KEEP:
            await self._end((line.policy_id, line.generation))
            return
        now = self._clock.monotonic()
        plan.failing_since = now if plan.failing_since is None else plan.failing_since
        plan.due = now + self._settings.refresh_pause
        news = self._alerts(line, now - plan.failing_since) - plan.told
        if news and await self._tell((line.policy_id, line.generation), raise_alerts, news):
            plan.told |= news

    async def _end(self, name: _Name) -> None:
        """Forget the plan of a key that is renewed or gone; of the latter, the policy's health tells on."""
        told = self._plans.pop(name).told
        if told:
            await self._tell(name, clear_alerts, told)

    async def _outcome(self, line: CacheLine) -> Fate:
        try:
            view = await self._attempts.load(line.policy_id, line.generation)
        except NotFound:
            self._attempts.cache.evict(line.policy_id)
            return Fate.EVICT
        except Exception as fault:  # noqa: BLE001  # the key keeps to its expiry, and the others are still refreshed
            return self._failed(line, fault)
        if view.policy.state is not PolicyState.ACTIVE:
            self._attempts.cache.evict(line.policy_id)
            return Fate.EVICT
        try:
            return await self._examiner.examine(view, ahead=True)
        except Exception as fault:  # noqa: BLE001  # as above
            return self._failed(line, fault)

    def _failed(self, line: CacheLine, fault: Exception) -> Fate:
        log.warning("policy %s could not be refreshed ahead: %s", line.policy_id, type(fault).__name__)
        return Fate.KEEP

    def _alerts(self, line: CacheLine, failing: float) -> frozenset[Alert]:
        left = line.expires - self._clock.monotonic()
        late = {FAILING} if failing >= self._settings.refresh_alarm else set()
        return frozenset(late | ({EXPIRING} if left <= self._settings.expiry_alarm else set()))

    async def _tell(self, name: _Name, how: _Telling, news: frozenset[Alert]) -> bool:
        try:
            view = await self._attempts.load(*name)
            async with self._store.begin(Cause(correlation=new_id())) as unit:
                how(unit, view.policy, sorted(news, key=lambda alert: alert.kind))
        except Exception as fault:  # noqa: BLE001  # the next round tells, as long as it fails
            log.warning("policy %s: an alert could not be told: %s", name[0], type(fault).__name__)
            return False
        return True
