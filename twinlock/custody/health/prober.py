"""Probe the root keys of every policy that matters to this process, so that a denial ends access in bounded time.

Both slots of every policy with a cached key are asked at every interval, by unwrapping, never by wrapping; refused
policies are asked again on their slowing schedule. At every interval those that are not healthy are asked too, whoever
found that out: a policy heals by itself though nobody reads, and though no process remembers it.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from schemas.identifiers import PolicyState
from twinlock.custody.attempt import Attempts
from twinlock.custody.health.examining import Examiner
from twinlock.custody.rows import read_unwell
from twinlock.custody.settings import CustodySettings
from twinlock.errors import NotFound
from twinlock.keys.ports import Clock
from twinlock.store.unit import Store

log = logging.getLogger(__name__)

_UNWELL = 50  # asked in one round: they must not use up what vaults allow to people


class Prober:
    """Ask root keys on a schedule, and act on what they say."""

    def __init__(
        self, store: Store, clock: Clock, settings: CustodySettings, examiner: Examiner, attempts: Attempts
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._examiner = examiner
        self._attempts = attempts
        self._last_unwell = ""

    async def run(self) -> None:
        """Probe for ever; the caller cancels."""
        start = self._clock.monotonic() + self._settings.probe_interval
        while True:
            # A refusal may be remembered while this sleeps: no sleep is longer than its first step.
            wake = min(start, self._clock.monotonic() + self._settings.refusal_schedule[0])
            await self._clock.sleep(wake - self._clock.monotonic())
            if self._clock.monotonic() >= start:
                start += self._settings.probe_interval  # from the start: a slow round must not stretch the bound
                await self.probe_round()
            await self.probe_refused()

    async def probe_round(self) -> None:
        """Probe every policy with a cached key, and after these, which matter most, the others that are not healthy."""
        asked = {line.policy_id for line in self._attempts.cache.lines()} | self._attempts.refusals.held()
        await self.probe_cached()
        try:
            unwell = await self._unwell()
        except Exception as fault:  # noqa: BLE001  # it would end the prober; the next round reads them again
            log.warning("policies that are not healthy could not be read: %s", type(fault).__name__)
        else:
            await self._probe_all({(policy_id, None) for policy_id in unwell if policy_id not in asked})

    async def _unwell(self) -> Sequence[str]:
        """Name the next of the policies that are not healthy: by and by, every one has its turn."""
        async with self._store.read() as reader:
            found = await read_unwell(reader, self._last_unwell, _UNWELL)
        self._last_unwell = found[-1] if len(found) == _UNWELL else ""
        return found

    async def probe_cached(self) -> None:
        """Probe every policy with a cached key once: renew, keep or evict."""
        await self._probe_all({(line.policy_id, line.generation) for line in self._attempts.cache.lines()})

    async def probe_refused(self) -> None:
        """Probe every refused policy that is due."""
        await self._probe_all({(policy_id, None) for policy_id in self._attempts.refusals.due()})

    async def _probe_all(self, names: Iterable[tuple[str, int | None]]) -> None:
        # All at once: one after the other, the vaults that hang would add up beyond the published bound.
        async with asyncio.TaskGroup() as group:
            for policy_id, generation in names:
                group.create_task(self._probe(policy_id, generation))

    async def _probe(self, policy_id: str, generation: int | None) -> None:
        try:
            view = await self._attempts.load(policy_id, generation)
            if view.policy.state is PolicyState.ACTIVE:
                await self._examiner.examine(view, ahead=False)
            else:
                self._drop(policy_id)
        except NotFound:
            self._drop(policy_id)
        except Exception as fault:  # noqa: BLE001  # it would cut the other probes off; the key keeps to its expiry
            log.warning("policy %s could not be probed: %s", policy_id, type(fault).__name__)

    def _drop(self, policy_id: str) -> None:
        self._attempts.cache.evict(policy_id)
        self._attempts.refusals.forget(policy_id)
