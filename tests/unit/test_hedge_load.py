"""Hedged unwraps in numbers: turns, cost, what is left behind, and what it is all for."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import log
from random import Random
from typing import TypeVar

import pytest

from schemas.identifiers import Slot
from tests.unit.hedging import NEVER, OFFSET, ROOTS, SETTINGS, Answer, bench
from tests.virtual import VirtualClock, virtually
from twinlock.custody.hedge import Turns
from twinlock.custody.settings import HedgeSettings
from twinlock.keys.errors import KeyWipedError
from twinlock.keys.ports import Outcome
from twinlock.keys.secret import SecretKey
from twinlock.vaults.software.memory import MemoryVault

T = TypeVar("T")


class MoodyVault(MemoryVault):
    """Draw for every unwrap how long it takes, and what it comes to."""

    def __init__(self, seconds: Callable[[], float], outcome: Callable[[], Outcome] = lambda: Outcome.OK) -> None:
        super().__init__(VirtualClock())
        self._draw_seconds = seconds
        self._draw_outcome = outcome

    async def _answer(self, operation: str, uri: str, work: Callable[[], T]) -> T:
        if operation == "unwrap":
            self.slow(uri, self._draw_seconds())
            self.hold(uri, self._draw_outcome())
        return await super()._answer(operation, uri, work)


class LingeringVault(MemoryVault):
    """Take a second to give a connection back when a call is cancelled."""

    def __init__(self) -> None:
        super().__init__(VirtualClock())
        self.given_back = 0

    async def _answer(self, operation: str, uri: str, work: Callable[[], T]) -> T:
        try:
            return await super()._answer(operation, uri, work)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            self.given_back += 1
            raise


class BrokenVault(MemoryVault):
    """Raise what no adapter may raise."""

    async def _answer(self, operation: str, uri: str, work: Callable[[], T]) -> T:
        if operation == "unwrap" and uri == ROOTS[Slot.B]:
            raise LookupError("a bug")
        return await super()._answer(operation, uri, work)


def test_turns() -> None:
    """The root keys of each policy take turns, whatever other policies do, and chance decides who begins."""
    turns = Turns(Random(1))  # noqa: S311  # every run must begin in the same way
    leads = {policy: [turns.next(policy)[0] for _ in range(2 + n)] for n, policy in enumerate(map(str, range(200)))}

    for slots in leads.values():
        assert all(before is not after for before, after in pairwise(slots))
    assert 70 < [slots[0] for slots in leads.values()].count(Slot.A) < 130


def test_takes_turns() -> None:
    """Successive unwraps ask a and b first in turn: each answers half of them."""

    async def _work() -> list[Slot | None]:
        on = await bench()
        return [(await on.hedged(on.stored, [])).slot for _ in range(6)]

    assert [Slot.A, Slot.B] * 3 == virtually(_work)


def test_both_in_one_moment() -> None:
    """Of two good answers in the same moment one is returned, the other key is wiped, and both are told."""

    async def _work() -> None:
        on = await bench()
        await on.schedule({Slot.A: Answer(Outcome.OK, 2 * OFFSET), Slot.B: Answer(Outcome.OK, OFFSET)})
        found = await on.hedged(on.stored, [])

        assert (on.key, on.lead) == (found.key, found.slot)
        assert [Outcome.OK] * 2 == [verdict.outcome for verdict in found.verdicts]
        assert 2 == len(on.asker.keys)
        on.check_nothing_is_left(found.key)

    virtually(_work)


def test_loser_is_awaited() -> None:
    """The unwrap returns when the loser's connection was given back, not before."""

    async def _work() -> None:
        vault = LingeringVault()
        on = await bench(vault=vault)
        await on.schedule({on.lead: Answer(Outcome.OK, NEVER)})
        found = await on.hedged(on.stored, [])

        assert (on.other, 1) == (found.slot, vault.given_back)

    virtually(_work)


def test_given_up_while_the_loser_is_awaited() -> None:
    """A caller that gives up between the winner's answer and the loser's end leaves no key in memory."""

    async def _work() -> None:
        vault = LingeringVault()
        on = await bench(vault=vault)
        await on.schedule({on.lead: Answer(Outcome.OK, NEVER)})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(OFFSET + 0.5):
                await on.hedged(on.stored, on.heard)

        assert [(on.other, Outcome.OK)] == [(verdict.slot, verdict.outcome) for verdict in on.heard]
        assert 1 == len(on.asker.keys)
        on.check_nothing_is_left(None)

    virtually(_work)


@pytest.mark.parametrize("lead", list(ROOTS))
def test_fault_of_an_adapter(lead: Slot) -> None:
    """What no adapter may raise passes to the caller, and ends the other request."""

    async def _work() -> None:
        vault = BrokenVault(VirtualClock())
        on = await bench(lead=lead, vault=vault)
        await on.schedule({Slot.A: Answer(Outcome.OK, 2 * OFFSET)})
        with pytest.raises(ExceptionGroup) as raised:
            await on.hedged(on.stored, [])

        assert raised.group_contains(LookupError)
        on.check_nothing_is_left(None)

    virtually(_work)


def test_failures_cost_no_budget() -> None:
    """To ask the other root key after the first has failed is no extra request: the budget is there for later."""

    async def _work() -> None:
        on = await bench(replace(SETTINGS, burst=1.0))
        await on.schedule({Slot.A: Answer(Outcome.UNCLEAR), Slot.B: Answer(Outcome.OK)})  # no breaker opens on that
        slots = [(await on.hedged(on.stored, [])).slot for _ in range(20)]
        await on.schedule({Slot.A: Answer(Outcome.OK, NEVER), Slot.B: Answer(Outcome.OK)})
        clock = VirtualClock()
        start = clock.monotonic()
        last = await on.hedged(on.stored, [])

        assert [Slot.B] * 21 == [*slots, last.slot]
        assert OFFSET == clock.monotonic() - start

    virtually(_work)


def test_budget_bounds_a_slow_vault() -> None:
    """Where one vault is slow in every answer, the other gets its burst and its part on top, and no more."""

    async def _work() -> Counter[tuple[str, str]]:
        on = await bench(replace(SETTINGS, extra_load=0.0625, burst=4.0))
        await on.schedule({Slot.A: Answer(Outcome.OK, 1.0), Slot.B: Answer(Outcome.OK)})
        for _ in range(320):
            await on.hedged(on.stored, [])
        return on.vault.calls

    asked = virtually(_work)

    assert 160 == asked["unwrap", ROOTS[Slot.A]]
    # what b had earned by the time a was asked first for the last time
    assert 160 + 4 + 159 // 16 == asked["unwrap", ROOTS[Slot.B]]


def test_thousands_leave_nothing() -> None:
    """Thousands of unwraps, many at once, of vaults in every mood: no request, no task and no key is left."""
    rng = Random(7)  # noqa: S311  # every run must draw the same moods

    async def _work() -> None:
        moods = [Outcome.OK] * 8 + list(Outcome)
        vault = MoodyVault(lambda: rng.choice((0.0, OFFSET, 0.25, 0.5, NEVER)), lambda: rng.choice(moods))
        on = await bench(replace(SETTINGS, burst=1e6), vault=vault)
        served: list[SecretKey] = []

        async def _some() -> None:
            for _ in range(100):
                try:
                    async with asyncio.timeout(rng.choice((0.0, 0.25, 0.5, 9.0))):
                        found = await on.hedged(on.stored, [])
                except TimeoutError:
                    continue
                served.extend([] if found.key is None else [found.key])

        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(_some())

        assert {asyncio.current_task()} == asyncio.all_tasks()
        assert 0 == vault.in_flight
        assert on.key == served[0]
        assert len(served) == sum(map(alive, on.asker.keys)) > 1000
        assert 10000 >= on.asked(Slot.A, Slot.B) > 6000

    virtually(_work)


def alive(key: SecretKey) -> bool:
    try:
        key.expose()
    except KeyWipedError:
        return False
    return True


@pytest.mark.parametrize(("median", "spread"), [(0.007, 0.4), (0.012, 0.5)])
def test_tail_is_cut(median: float, spread: float) -> None:
    """Where one answer in twenty takes half a second more, the slowest hundredth is cut by far, for a few percent.

    That is so below the shortest offset and above it, where quick answers compete for the budget with the slow ones.
    """
    rng = Random(1)  # noqa: S311  # every run must draw the same times

    async def _work() -> tuple[float, float, float]:
        vault = MoodyVault(lambda: rng.lognormvariate(log(median), spread) + 0.5 * (rng.random() < 0.05))
        on = await bench(HedgeSettings(), vault=vault)
        clock = VirtualClock()

        async def _p99(unwraps: int, hedged: bool) -> float:
            times = []
            for _ in range(unwraps):
                start = clock.monotonic()
                await (on.hedged(on.stored, []) if hedged else on.asker.ask(on.stored, Slot.A))
                times.append(clock.monotonic() - start)
            return sorted(times)[unwraps * 99 // 100]

        await _p99(500, hedged=True)
        before = on.asked(Slot.A, Slot.B)
        hedged = await _p99(2000, hedged=True)
        extra = (on.asked(Slot.A, Slot.B) - before) / 2000 - 1
        return hedged, await _p99(1000, hedged=False), extra

    hedged, single, extra = virtually(_work)

    assert hedged * 5 < single
    assert 0 < extra <= 0.06
