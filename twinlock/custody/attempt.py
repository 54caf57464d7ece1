"""One attempt to open a policy key: ask the root keys, remember what they said, decide, and act on it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType

from schemas.identifiers import Slot, Workload
from twinlock.custody.availability import AvailabilityKeys
from twinlock.custody.cache import KeyCache, OpenedBy
from twinlock.custody.decision import AvailabilityKeyState, Decision, Outcomes, Result, alerts_for
from twinlock.custody.health.repeating import beats
from twinlock.custody.health.verdicts import SlotVerdict, heard_from, raise_alerts
from twinlock.custody.port import Asker
from twinlock.custody.refusals import Refusals
from twinlock.custody.refusing import needs_root, not_yet
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import RootUnwrap, Unwrapped
from twinlock.custody.view import View, learn, load
from twinlock.custody.wiping import wipe, wiped_on_failure
from twinlock.errors import NotFound
from twinlock.keys.ports import Clock
from twinlock.keys.secret import SecretKey
from twinlock.store.unit import Cause, Store
from twinlock.together import Together

_Name = tuple[str, int | None]  # policy, generation of its key: by default the newest
_AT_ONCE, _LANES = 10_000, 4  # callers that share a read, and reads at a time

Witness = Callable[[StoredPolicyKey], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Lent:
    """Lend a policy key, as a context manager, to a borrower who awaits nothing inside the block.

    A key that is `once` serves this one call and is wiped after it.
    """

    key: SecretKey
    generation: int
    opened_by: OpenedBy
    source: str  # cache or vault
    slot: Slot | None = None
    once: bool = False
    heard: str | None = None  # from the root keys, where they were asked for this call

    @property
    def by_availability_key(self) -> bool:
        """Say whether the availability key opened it."""
        return self.opened_by is not OpenedBy.ROOT_KEY

    def __enter__(self) -> SecretKey:
        return self.key

    def __exit__(self, kind: type[BaseException] | None, fault: object, trace: TracebackType | None) -> None:
        if self.once:
            self.key.wipe()


@dataclass(frozen=True, slots=True)
class Landing:
    """Hold what an attempt came to; `lent` is for the caller who made it, the others look into the cache."""

    decision: Decision
    lent: Lent | None = None
    verdicts: tuple[SlotVerdict, ...] = ()

    def with_verdicts(self, verdicts: tuple[SlotVerdict, ...]) -> "Landing":
        """Keep what the root keys said to this attempt."""
        lent = None if self.lent is None else replace(self.lent, heard=heard_from(verdicts))
        return replace(self, lent=lent, verdicts=verdicts)


class Attempts:
    """Make attempts, and keep what they leave behind: cached keys and remembered refusals.

    `ways` is how the root keys of each workload's policies are asked.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: CustodySettings,
        ways: Mapping[Workload, RootUnwrap],
        availability: AvailabilityKeys,
        witness: Witness,
    ) -> None:
        self.cache = KeyCache(clock)
        self.refusals = Refusals(clock, settings.refusal_schedule)
        self._store = store
        self._clock = clock
        self._settings = settings
        self._ways = ways
        self._availability = availability
        self._witness = witness
        self._told: dict[tuple[str, str], tuple[datetime, int]] = {}  # of policy and kind: since when, and last when
        self._views = Together(self._load_all, _AT_ONCE, _LANES)

    def within(self, until: float) -> asyncio.Timeout:
        """Bound a wait by a moment on the injected clock; whoever is cut off by it has said nothing."""
        return asyncio.timeout(until - self._clock.monotonic())

    async def make(self, view: View, asker: Asker, until: float, root_only: bool) -> Landing:
        """Ask the root keys once and decide; raise TimeoutError at `until`."""
        found = await self._ask(view, asker, until)
        epoch = self.cache.epoch  # before the policy's state is read, by which it is decided
        with wiped_on_failure(found.key):
            view = await self.learn(view.stored, found, asker.cause)
            outcomes = view.standing.now(found.verdicts)
            decision = await self._decide(view, asker, outcomes, until, root_only)
        if decision.result is Result.SERVE_BY_AVAILABILITY_KEY:
            landing = await self._by_availability_key(view, asker, decision, outcomes, until, epoch)
            return landing.with_verdicts(found.verdicts)
        if decision.result is Result.SERVE and found.key is not None:
            landing = Landing(decision, self._keep(view, found.key, found.slot, epoch))
            return landing.with_verdicts(found.verdicts)
        wipe(found.key)  # revoked while its vaults answered
        if decision.result is Result.REFUSE and not root_only:
            if any(verdict.says_something for verdict in found.verdicts):
                self._remember(view, asker, decision)
            await self._tell(view, decision, outcomes, asker.cause)
        return Landing(decision).with_verdicts(found.verdicts)

    async def fresh_root_key(self, view: View, asker: Asker, until: float) -> Lent:
        """Have a root key unwrap at this moment, whatever is cached (law 6); the caller wipes the key."""
        try:
            found = await self._ask(view, asker, until)
        except TimeoutError:
            raise not_yet(view.policy) from None
        with wiped_on_failure(found.key):
            view = await self.learn(view.stored, found, asker.cause)
            decision = view.decide(asker, view.standing.now(found.verdicts), root_only=True)
            if decision.result is not Result.SERVE or found.key is None:
                raise needs_root(view.policy, decision, found.verdicts)
        generation, heard = view.stored.generation, heard_from(found.verdicts)
        return Lent(found.key, generation, OpenedBy.ROOT_KEY, "vault", found.slot, once=True, heard=heard)

    async def _ask(self, view: View, asker: Asker, until: float) -> Unwrapped:
        heard: list[SlotVerdict] = []
        try:
            async with self.within(until):
                return await self._ways[view.policy.workload](view.stored, heard)
        except TimeoutError:
            if heard:  # a denial must not be lost because the other vault hangs (law 4)
                await self.learn(view.stored, Unwrapped(None, None, tuple(heard)), asker.cause)
            raise

    async def load(self, policy_id: str, generation: int | None) -> View:
        """Read how a policy key stands, by default the newest generation; NotFound if there is none."""
        found = await self._views((policy_id, generation))
        if isinstance(found, NotFound):
            raise found
        return found

    async def _load_all(self, names: Sequence[_Name]) -> Sequence[View | NotFound]:
        """Read what many callers need in one transaction, which began after all of them asked."""
        async with self._store.read() as reader:
            now, rules = self._clock.now(), self._settings.evidence
            found = {name: await load(reader, *name, now, rules) for name in dict.fromkeys(names)}
        return [found[name] for name in names]

    async def learn(self, stored: StoredPolicyKey, found: Unwrapped, cause: Cause) -> View:
        """Store what root keys answered; a good answer drops the refusals: the policy has healed."""
        if found.key is not None:
            self.refusals.forget(stored.policy_id)
            self._told = {about: told for about, told in self._told.items() if about[0] != stored.policy_id}
        return await learn(self._store, stored, found, cause, self._settings.evidence)

    async def _decide(self, view: View, asker: Asker, outcomes: Outcomes, until: float, root_only: bool) -> Decision:
        decision = view.decide(asker, outcomes, root_only=root_only)
        if decision.result is not Result.WAIT or not all(view.proven):
            return decision
        async with self.within(until):
            witness = await self._witness(view.stored)
        return view.decide(asker, outcomes, root_only=root_only, witness=witness)

    def _keep(self, view: View, key: SecretKey, slot: Slot | None, epoch: int) -> Lent:
        generation = view.stored.generation
        ttl = self._settings.ttl(view.policy.workload)
        kept = self.cache.put(view.policy.id, generation, OpenedBy.ROOT_KEY, key, ttl, epoch, slot)
        return Lent(key, generation, OpenedBy.ROOT_KEY, "vault", slot, once=not kept)

    def _remember(self, view: View, asker: Asker, decision: Decision) -> None:
        self.refusals.remember(view.policy.id, view.policy.version, asker.initiator.kind, decision)

    async def _by_availability_key(
        self, view: View, asker: Asker, decision: Decision, outcomes: Outcomes, until: float, epoch: int
    ) -> Landing:
        await self._availability.announce(view.policy, view.stored, decision.reason.value, asker)
        async with self.within(until):
            found = await self._availability.unwrap(view.stored)
        if not isinstance(found, SecretKey):
            return await self._availability_failed(view, asker, outcomes)
        with wiped_on_failure(found):
            await self._tell(view, decision, outcomes, asker.cause)
        generation, tag = view.stored.generation, OpenedBy.availability(asker.initiator.kind)
        kept = not decision.once and self.cache.put(
            view.policy.id, generation, tag, found, self._settings.availability_ttl, epoch, Slot.AVAILABILITY
        )
        return Landing(decision, Lent(found, generation, tag, "vault", Slot.AVAILABILITY, once=not kept))

    async def _availability_failed(self, view: View, asker: Asker, outcomes: Outcomes) -> Landing:
        failed = replace(view, availability=AvailabilityKeyState.FAILED)
        decision = failed.decide(asker, outcomes, witness=True)
        self._remember(view, asker, decision)
        await self._tell(view, decision, outcomes, asker.cause)
        return Landing(decision)

    async def _tell(self, view: View, decision: Decision, outcomes: Outcomes, cause: Cause) -> None:
        """Raise what is to be told of the availability key itself, now and then until a root key answers again."""
        held, now = alerts_for(outcomes), self._clock.now()
        since = {a: self._told.get((view.policy.id, a.kind), (now, -1)) for a in decision.alerts if a not in held}
        news = {
            alert: (first, beats(now - first)) for alert, (first, last) in since.items() if beats(now - first) > last
        }
        if news:
            async with self._store.begin(cause) as unit:
                raise_alerts(unit, view.policy, news)
            self._told.update({(view.policy.id, alert.kind): told for alert, told in news.items()})
