"""What vaults took of late, and quantiles of what was not waited for to the end."""

import asyncio
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlock.clock import ManualClock
from twinlock.custody.latency import Latencies, Observation, Window
from twinlock.custody.settings import HedgeSettings

EAST, WEST = "memory://east", "memory://west"
SEEN = st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=60)
TAILS = st.sampled_from([0.5, 0.25, 0.06, 0.05, 0.01])


def window(seen: Sequence[tuple[float, bool]]) -> Window:
    """Return a window that saw times, each with whether a good answer came then."""
    made = Window(1000, 3600)
    for seconds, good in seen:
        made.add(Observation(0.0, seconds, good))
    return made


def redistributed(seen: Sequence[tuple[int, bool]], tail: Fraction) -> int:
    """Work the quantile out in another way: what was given up leaves its weight to all that lasted longer."""
    queue = sorted((seconds, not good) for seconds, good in seen)
    weights = [Fraction(1, len(queue))] * len(queue)
    left = Fraction(1)
    for place, (seconds, censored) in enumerate(queue):
        longer = len(queue) - place - 1
        if not censored:
            left -= weights[place]
            if left <= tail:
                return seconds
        elif longer:
            for later in range(place + 1, len(queue)):
                weights[later] += weights[place] / longer
    return queue[-1][0]


@given(SEEN, TAILS)
def test_quantile(seen: list[tuple[int, bool]], tail: float) -> None:
    """The quantile is that of an estimate worked out in fractions, in another way."""
    assert redistributed(seen, Fraction(str(tail))) == window(seen).quantile(tail)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=100), TAILS)
def test_all_answered(times: list[int], tail: float) -> None:
    """Without anything censored no more than the tail lies above the quantile, and more above any shorter time."""
    found = window([(seconds, True) for seconds in times]).quantile(tail)

    assert sum(seconds > found for seconds in times) <= tail * len(times) < sum(seconds >= found for seconds in times)


@given(SEEN, TAILS, st.data())
def test_giving_up_never_looks_faster(seen: list[tuple[int, bool]], tail: float, data: st.DataObject) -> None:
    """Whoever had been given up in the moment when it answered makes the vault look slower, if anything."""
    which = data.draw(st.integers(0, len(seen) - 1))
    given_up = [(seconds, good and place != which) for place, (seconds, good) in enumerate(seen)]

    assert window(given_up).quantile(tail) >= window(seen).quantile(tail)


def test_cancelled_tail() -> None:
    """A hedge that cancels the slow tenth does not make the vault look as if it had no slow tenth."""
    fast = [(10.0, True)] * 90
    cancelled = [(20.0, False)] * 10

    assert 20.0 == window(fast + cancelled).quantile(0.06)
    assert 10.0 == window(fast + cancelled).quantile(0.1)
    assert 10.0 == window(fast).quantile(0.06)


def test_failures_weigh_nothing() -> None:
    """A vault that often refuses at once is neither fast nor slow for it."""
    answers = [(float(seconds), True) for seconds in range(1, 101)]

    assert 94.0 == window(answers).quantile(0.06)
    assert 94.0 == window(answers + [(0.5, False)] * 300).quantile(0.06)


def test_nothing_seen() -> None:
    """Nobody can tell a quantile of nothing."""
    with pytest.raises(ValueError, match="nothing"):
        Window(1000, 3600).quantile(0.06)


def test_window_moves() -> None:
    """Only the last observations count, and none that are too old."""
    moving = Window(3, 10)
    for at in range(5):
        moving.add(Observation(float(at), float(at), good=True))

    assert (3, 4.0) == (moving.good(), moving.quantile(0.01))
    moving.forget(13.5)
    assert 1 == moving.good()
    moving.forget(15.0)
    assert 0 == moving.good()


def observe(
    latencies: Latencies, clock: ManualClock, vault: str, seconds: float, times: int = 1, fault: Exception | None = None
) -> None:
    for _ in range(times):
        try:
            with latencies.timed(vault):
                clock.advance(seconds)
                if fault is not None:
                    raise fault
        except OSError:
            assert fault is not None


SETTINGS = HedgeSettings(floor=0.02, cap=0.5, initial=0.1, warm_up=20, window_seconds=600.0)


def test_warm_up(clock: ManualClock) -> None:
    """Until a vault has answered often enough the offset is the initial one; what failed is no answer."""
    latencies = Latencies(clock, SETTINGS)
    observe(latencies, clock, EAST, 0.3, 19)
    observe(latencies, clock, EAST, 0.3, 50, OSError())

    assert 0.1 == latencies.offset(EAST, 0.06)
    observe(latencies, clock, EAST, 0.3)
    assert 0.3 == pytest.approx(latencies.offset(EAST, 0.06))
    assert 0.1 == latencies.offset(WEST, 0.06)


def test_tail(clock: ManualClock) -> None:
    """The more may be hedged, the shorter is the offset; with patience it is longer, up to the cap."""
    latencies = Latencies(clock, SETTINGS)
    for hundredths in range(1, 51):
        observe(latencies, clock, EAST, hundredths / 100)

    assert [0.5, 0.47, 0.25] == [pytest.approx(latencies.offset(EAST, tail)) for tail in (0.001, 0.06, 0.5)]
    assert [0.1, 0.3, 0.5] == [pytest.approx(latencies.offset(EAST, 0.9, patience)) for patience in (2, 6, 20)]


def test_floor_and_cap(clock: ManualClock) -> None:
    """No vault is so fast that the other is asked at once, and none so slow that it is not asked in time."""
    latencies = Latencies(clock, SETTINGS)
    observe(latencies, clock, EAST, 0.001, 20)
    observe(latencies, clock, WEST, 3.0, 20)

    assert (0.02, 0.5) == (latencies.offset(EAST, 0.06), latencies.offset(WEST, 0.06))


def test_recent(clock: ManualClock) -> None:
    """A vault that turns slow, or fast again, is known for it as soon as the window has moved on."""
    latencies = Latencies(clock, SETTINGS)
    for seconds in (0.05, 0.2, 0.03):
        observe(latencies, clock, EAST, seconds, 1000)
        assert seconds == pytest.approx(latencies.offset(EAST, 0.06))
    clock.advance(601)
    assert 0.1 == latencies.offset(EAST, 0.06)


async def test_cancelled_request(clock: ManualClock) -> None:
    """A request that is cancelled is censored, and the cancellation passes."""
    latencies = Latencies(clock, SETTINGS)
    observe(latencies, clock, EAST, 0.05, 20)

    async def request() -> None:
        with latencies.timed(EAST):
            await clock.sleep(9)

    for _ in range(5):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(request())
            await asyncio.sleep(0)
            clock.advance(0.25)
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled()

    assert 0.25 == pytest.approx(latencies.offset(EAST, 0.06))
