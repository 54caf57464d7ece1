"""Open a policy key: the policy's state first, then verdicts, cache and remembered refusals, and a vault last.

One attempt asks the root keys once and is shared by every caller of the same initiator class that waits for the same
key. Each caller waits and tries again within its own deadline (law 5).
"""

from schemas.identifiers import PolicyState
from twinlock.custody.attempt import Attempts, Landing, Lent
from twinlock.custody.cache import OpenedBy
from twinlock.custody.decision import Result
from twinlock.custody.errors import KeyNotYet
from twinlock.custody.fate import Fate, fate
from twinlock.custody.flight import SingleFlight
from twinlock.custody.port import Asker
from twinlock.custody.refusing import needs_root, not_yet, refused
from twinlock.custody.settings import CustodySettings
from twinlock.custody.view import View
from twinlock.keys.ports import Clock
from twinlock.keys.secret import SecretKey


class PolicyKeyOpener:
    """Lend policy keys to the custodian's own operations; they never go further."""

    def __init__(self, clock: Clock, settings: CustodySettings, attempts: Attempts) -> None:
        self._clock = clock
        self._settings = settings
        self._attempts = attempts
        self._flights = SingleFlight[Landing]()

    async def open(self, policy_id: str, generation: int | None, asker: Asker, *, root_only: bool = False) -> Lent:
        """Lend a policy key (default: the newest generation), or raise KeyRefused or KeyNotYet.

        `root_only` is for what the availability key never serves (law 6): only a root key opens it, now or when what is
        cached was opened. Nothing may be awaited between the return and the use of the key.
        """
        until = self._clock.monotonic() + asker.deadline
        pause = self._settings.retry_pause
        while True:
            found = await self._try(policy_id, generation, asker, until, root_only)
            if isinstance(found, Lent):
                return found
            if self._clock.monotonic() + pause >= until:
                raise found
            await self._clock.sleep(pause)
            pause = min(2 * pause, self._settings.retry_pause_cap)

    async def _try(
        self, policy_id: str, generation: int | None, asker: Asker, until: float, root_only: bool
    ) -> Lent | KeyNotYet:
        while True:
            view = await self._attempts.load(policy_id, generation)
            found = self._at_hand(view, asker, root_only)
            if found is not None:
                return found
            landing, led = await self._fly(view, asker, until, root_only)
            if landing.decision.result is Result.REFUSE:
                raise (needs_root if root_only else refused)(view.policy, landing.decision, landing.verdicts)
            if landing.decision.result is Result.WAIT:
                return not_yet(view.policy, landing.verdicts)
            if led and landing.lent is not None:
                return landing.lent
            # A follower finds the key in the cache; one opened for a single call was the leader's alone.

    async def _fly(self, view: View, asker: Asker, until: float, root_only: bool) -> tuple[Landing, bool]:
        name = (view.policy.id, view.stored.generation, asker.initiator.kind, root_only)
        try:
            return await self._flights.do(
                name,
                lambda: self._attempts.make(view, asker, until, root_only),
                patience=until - self._clock.monotonic(),
            )
        except TimeoutError:
            raise not_yet(view.policy) from None

    def _at_hand(self, view: View, asker: Asker, root_only: bool) -> Lent | None:
        """Answer without a vault where that is right: refuse, lend what is cached, or neither."""
        policy, cache = view.policy, self._attempts.cache
        if policy.state is not PolicyState.ACTIVE:
            cache.evict(policy.id)
            raise refused(policy, view.decide(asker, view.standing.outcomes))
        if fate(view.standing, self._clock.now(), self._settings.unclear_limit) is Fate.EVICT:
            cache.evict(policy.id)
        key = cache.find(policy.id, view.stored.generation, OpenedBy.ROOT_KEY)
        if key is not None:
            return self._cached(key, view, OpenedBy.ROOT_KEY)
        return None if root_only else self._by_memory(view, asker)

    def _by_memory(self, view: View, asker: Asker) -> Lent | None:
        """Refuse as before, or lend what the availability key opened if the table would open it now (law 7)."""
        policy, kind = view.policy, asker.initiator.kind
        held = self._attempts.refusals.standing(policy.id, policy.version, kind)
        if held is not None:
            raise refused(policy, held)
        key = self._attempts.cache.find(policy.id, view.stored.generation, OpenedBy.availability(kind))
        decision = view.decide(asker, view.standing.outcomes, witness=True)
        if key is None or decision.once or decision.result is not Result.SERVE_BY_AVAILABILITY_KEY:
            return None
        return self._cached(key, view, OpenedBy.availability(kind))

    def _cached(self, key: SecretKey, view: View, opened_by: OpenedBy) -> Lent:
        generation = view.stored.generation
        slot = self._attempts.cache.slot(view.policy.id, generation, opened_by)
        return Lent(key, generation, opened_by, "cache", slot)
