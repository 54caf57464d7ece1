"""The hedged unwrap: ask one root key, after a short offset the other as well, and take the first good answer.

However it ends, no request runs on, and of the keys that came only the returned one is not wiped. What was cancelled
has no verdict: it says nothing about its root key (law 5).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from schemas.identifiers import Slot
from twinlock.custody.budget import HedgeBudget
from twinlock.custody.decision import ROOT_SLOTS
from twinlock.custody.health.verdicts import SlotVerdict
from twinlock.custody.latency import Latencies
from twinlock.custody.observing import Observer, Unobserved
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.settings import HedgeSettings
from twinlock.custody.unwrap import SlotAsker, Unwrapped
from twinlock.custody.wiping import wipe
from twinlock.keys.ports import Clock

_NOTHING = Unwrapped(None, None, ())


class Hedged:
    """Ask both root keys of a policy in turn for the first request, and the other one when that takes long or fails."""

    def __init__(
        self,
        asker: SlotAsker,
        clock: Clock,
        latencies: Latencies,
        settings: HedgeSettings,
        rng: Random,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or Unobserved()
        self._asker = asker
        self._clock = clock
        self._latencies = latencies
        self._budget = HedgeBudget(settings.extra_load, settings.burst)
        self._turns = Turns(rng)

    async def __call__(self, stored: StoredPolicyKey, heard: list[SlotVerdict]) -> Unwrapped:
        """Return the first good answer, with the verdicts that were there by then."""
        async with _race(self._asker, stored, heard) as race:
            lead, other = self._turns.next(stored.policy_id)
            self._budget.earn(stored.vault(lead))
            first, hedged = race.ask(lead), False
            patience = self._budget.patience(stored.vault(other))
            offset = self._latencies.offset(stored.vault(lead), self._budget.tail, patience)
            await race.head_start(first, self._clock, offset)
            if not first.done() and self._budget.spend(stored.vault(other)):
                hedged = True
                self._observer.hedged(stored.vault(other))
                race.ask(other)
            elif (await first).key is None:
                self._budget.earn(stored.vault(other))  # it is asked in any case: nothing else could serve
                race.ask(other)
            winner = await race.first_good()
        if hedged and winner.slot is other:
            self._observer.hedge_won(stored.vault(other))
        return Unwrapped(winner.key, winner.slot, tuple(heard))


class Turns:
    """Let the two root keys of each policy take turns at being asked first; chance decides who begins."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._last: dict[str, Slot] = {}

    def next(self, policy_id: str) -> tuple[Slot, Slot]:
        """Return who is first this time, and who is second."""
        a, b = ROOT_SLOTS
        last = self._last.get(policy_id) or self._rng.choice(ROOT_SLOTS)
        lead, other = (b, a) if last is a else (a, b)
        self._last[policy_id] = lead
        return lead, other


@asynccontextmanager
async def _race(asker: SlotAsker, stored: StoredPolicyKey, heard: list[SlotVerdict]) -> AsyncIterator["_Race"]:
    """Run the requests of one unwrap; at the end none of them runs, and only the winner's key is left."""
    group = asyncio.TaskGroup()
    race = _Race(group, asker, stored, heard)
    try:
        async with group:
            yield race
            race.cancel()
    except BaseException:
        race.wipe(spare=None)  # also the winner's, where the caller gave up while the loser was awaited
        raise
    race.wipe(spare=race.winner)


class _Race:
    def __init__(
        self, group: asyncio.TaskGroup, asker: SlotAsker, stored: StoredPolicyKey, heard: list[SlotVerdict]
    ) -> None:
        self.winner: asyncio.Task[Unwrapped] | None = None
        self._group = group
        self._asker = asker
        self._stored = stored
        self._heard = heard
        self._asked: list[asyncio.Task[Unwrapped]] = []

    def ask(self, slot: Slot) -> asyncio.Task[Unwrapped]:
        """Send a request."""
        self._asked.append(self._group.create_task(self._ask(slot)))
        return self._asked[-1]

    async def _ask(self, slot: Slot) -> Unwrapped:
        found = await self._asker.ask(self._stored, slot)
        # Here and not where it is awaited: a verdict must not get lost because the caller gives up in the same moment.
        self._heard += found.verdicts
        return found

    async def head_start(self, first: asyncio.Task[Unwrapped], clock: Clock, offset: float) -> None:
        """Leave the first request alone until it is done or the offset is over."""
        timer = self._group.create_task(clock.sleep(offset))
        await asyncio.wait((first, timer), return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()

    async def first_good(self) -> Unwrapped:
        """Wait for a good answer, or for all of them to fail."""
        pending = set(self._asked)
        while pending and self.winner is None:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            self.winner = next((task for task in self._asked if task.done() and task.result().key is not None), None)
        return _NOTHING if self.winner is None else self.winner.result()

    def cancel(self) -> None:
        """Cancel what still runs; the group awaits it."""
        for task in self._asked:
            task.cancel()

    def wipe(self, spare: asyncio.Task[Unwrapped] | None) -> None:
        """Wipe every key that came, but for one."""
        for task in self._asked:
            if task is not spare and not task.cancelled() and task.exception() is None:
                wipe(task.result().key)
