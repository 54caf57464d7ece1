"""Ask both root keys of a policy anew, and do to its cached key what their answers call for (law 7)."""

import logging

from twinlock.custody.attempt import Attempts
from twinlock.custody.fate import Fate, fate
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import SlotAsker, Unwrapped
from twinlock.custody.view import View
from twinlock.custody.wiping import wipe
from twinlock.keys.ports import Clock
from twinlock.store.unit import Cause, new_id

log = logging.getLogger(__name__)


class Examiner:
    """Decide like a fresh user unwrap over both root keys: renew the cached key, keep it to its expiry, or evict it."""

    def __init__(self, clock: Clock, settings: CustodySettings, asker: SlotAsker, attempts: Attempts) -> None:
        self._clock = clock
        self._settings = settings
        self._asker = asker
        self._attempts = attempts

    async def examine(self, view: View, *, ahead: bool) -> Fate:
        """Examine a policy that is active, by unwrapping, never by wrapping.

        A good answer extends a short life. A long one, that of a TIK, is extended only `ahead` of its end.
        """
        policy_id, attempts = view.policy.id, self._attempts
        a, b = await self._asker.ask_both(view.stored)
        wipe(a.key, b.key)
        found = Unwrapped(a.key or b.key, a.slot or b.slot, a.verdicts + b.verdicts)
        view = await attempts.learn(view.stored, found, Cause(correlation=new_id()))
        if found.slot is not None:
            ttl = self._settings.ttl(view.policy.workload)
            if ahead or not self._settings.refreshes_ahead(ttl):
                attempts.cache.renew(policy_id, view.stored.generation, ttl)
            return Fate.RENEW
        attempts.refusals.postpone(policy_id, view.policy.version)
        # What was answered now decides: a slot that was cut off by a limiter is not good because it was good before.
        outcomes = view.standing.now(found.verdicts)
        end = fate(view.standing, self._clock.now(), self._settings.unclear_limit, outcomes)
        if end is Fate.EVICT:
            count = attempts.cache.evict(policy_id)
            log.warning("policy %s: %d cached key(s) evicted, no root key unwraps", view.policy, count)
        return end
