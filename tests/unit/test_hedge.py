"""Hedged unwraps: what becomes of every schedule of two vaults, on a clock that jumps."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.identifiers import AvailabilityMode, PolicyHealth, PolicyState, Slot, Workload
from tests.unit.hedging import FOREIGN, GONE, NEVER, OFFSET, SETTINGS, Answer, bench
from tests.virtual import VirtualClock, virtually
from twinlock.custody.decision import ROOT_SLOTS, AvailabilityKeyState, Evidence, Outcomes, decide
from twinlock.custody.health.verdicts import SlotStanding, SlotVerdict, Standing
from twinlock.custody.policies import Policy
from twinlock.custody.port import InitiatorClass
from twinlock.keys.ports import Outcome

T = TypeVar("T")
DELAYS = st.one_of(
    st.integers(0, 24).map(lambda n: n / 8), st.integers(0, 3072).map(lambda n: n / 1024), st.just(NEVER)
)
ANSWERS = st.builds(Answer, st.sampled_from([*Outcome, Outcome.OK, Outcome.OK, FOREIGN, GONE]), DELAYS)


async def timed(work: Awaitable[T]) -> tuple[T, float]:
    clock = VirtualClock()
    start = clock.monotonic()
    return await work, clock.monotonic() - start


@dataclass(frozen=True)
class Course:
    """Say what has to happen: when the second request leaves, if ever, and when each one is answered."""

    begins: dict[Slot, float]
    ends: dict[Slot, float]
    seconds: float
    winners: set[Slot]


def course(lead: Slot, other: Slot, answers: dict[Slot, Answer], hedging: bool) -> Course:
    first, failed = answers[lead].seconds, answers[lead].outcome is not Outcome.OK
    begin = OFFSET if hedging and first > OFFSET else first
    begins = {lead: 0.0} | ({other: begin} if failed or begin < first else {})
    ends = {slot: begins[slot] + answers[slot].seconds for slot in begins}
    good = {slot: end for slot, end in ends.items() if answers[slot].outcome is Outcome.OK}
    seconds = min(good.values()) if good else max(ends.values())
    return Course(begins, ends, seconds, {slot for slot, end in good.items() if end == seconds})


def check_decisions(answers: dict[Slot, Answer], verdicts: tuple[SlotVerdict, ...]) -> None:
    """Fail if any call would get something else than by what both root keys would have answered in the end."""
    policy = Policy(
        "p", "t", "t", "p", Workload.SITE, AvailabilityMode.STANDARD, PolicyState.ACTIVE, PolicyHealth.HEALTHY, 1, 1
    )
    found = Standing(policy, {slot: SlotStanding() for slot in ROOT_SLOTS}).now(verdicts)

    assert by_table((answers[Slot.A].outcome, answers[Slot.B].outcome)) == by_table(found)


@cache
def by_table(slots: Outcomes) -> list[tuple[str, str]]:
    cases = product(PolicyState, AvailabilityMode, InitiatorClass, (False, True), AvailabilityKeyState)
    return [cell(slots, *case) for case in cases]


def cell(
    slots: Outcomes,
    state: PolicyState,
    mode: AvailabilityMode,
    initiator: InitiatorClass,
    proven: bool,
    key: AvailabilityKeyState,
) -> tuple[str, str]:
    evidence = Evidence(proven, proven, proven)
    found = decide(state=state, mode=mode, initiator=initiator, slots=slots, evidence=evidence, availability=key)
    return found.result, found.reason


@settings(max_examples=2500)
@given(ANSWERS, ANSWERS, st.booleans(), st.sampled_from(ROOT_SLOTS))
def test_every_schedule(lead: Answer, other: Answer, hedging: bool, begins: Slot) -> None:
    """Whatever two vaults do, the call gets what the decision table says, by two requests at most and in time.

    Law 5: the verdicts are those of the requests that were answered; one that was cancelled has none.
    """

    async def _work() -> None:
        on = await bench(replace(SETTINGS, burst=5.0 * hedging), begins)
        answers = {on.lead: lead, on.other: other}
        await on.schedule(answers)
        expected = course(on.lead, on.other, answers, hedging)
        found, seconds = await timed(on.hedged(on.stored, on.heard))

        assert expected.seconds == seconds
        assert (found.slot in expected.winners) if expected.winners else (found.slot is None)
        assert (on.key if expected.winners else None) == found.key
        told = {verdict.slot: verdict.outcome for verdict in found.verdicts}
        assert told.items() >= {s: answers[s].outcome for s, end in expected.ends.items() if end < seconds}.items()
        assert told.items() <= {s: answers[s].outcome for s, end in expected.ends.items() if end <= seconds}.items()
        assert list(found.verdicts) == on.heard
        assert (lead.what != GONE) == on.asked(on.lead)
        assert (on.other in expected.begins and other.what != GONE) == on.asked(on.other)
        check_decisions(answers, found.verdicts)
        on.check_nothing_is_left(found.key)

    virtually(_work)


MOMENTS = st.one_of(st.integers(0, 48).map(lambda n: n / 8), st.integers(0, 6144).map(lambda n: n / 1024))


@settings(max_examples=2500)
@given(ANSWERS, ANSWERS, MOMENTS, st.sampled_from(ROOT_SLOTS))
def test_given_up_at_every_moment(lead: Answer, other: Answer, until: float, begins: Slot) -> None:
    """Whenever the caller gives up, both requests end with it, no key is left, and what was heard by then is kept."""

    async def _work() -> None:
        on = await bench(SETTINGS, begins)
        answers = {on.lead: lead, on.other: other}
        await on.schedule(answers)
        expected, found = course(on.lead, on.other, answers, hedging=True), None
        try:
            async with asyncio.timeout(until):
                found = await on.hedged(on.stored, on.heard)
        except TimeoutError:
            assert until <= expected.seconds
        else:
            assert until >= expected.seconds
        told = {verdict.slot: verdict.outcome for verdict in on.heard}
        over = min(until, expected.seconds)

        assert told.items() >= {s: answers[s].outcome for s, end in expected.ends.items() if end < over}.items()
        assert told.items() <= {s: answers[s].outcome for s, end in expected.ends.items() if end <= over}.items()
        assert max(on.asked(Slot.A), on.asked(Slot.B)) <= 1
        on.check_nothing_is_left(None if found is None else found.key)

    virtually(_work)
