"""How long vaults took of late to give a good answer, and the quantiles of that.

A request that was cancelled, failed or ran into its deadline tells only that no good answer had come by then: it is
*censored*. To leave it out, or to take it for an answer, would make a slow vault look fast, because a hedge cancels
just the slow requests. So quantiles are those of the Kaplan-Meier estimate, which takes it for what it says.
"""

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from twinlock.custody.settings import HedgeSettings
from twinlock.keys.ports import Clock

_ROUNDING = 1e-9  # the estimate is a product of many factors, and must not miss its quantile by the last bit


@dataclass(frozen=True, slots=True)
class Observation:
    """Hold what one request told, and when, on the monotonic clock; it is censored unless `good`."""

    at: float
    seconds: float
    good: bool


class Window:
    """Hold the last `size` observations of one vault, none of them older than `seconds`, in time and in order."""

    def __init__(self, size: int, seconds: float) -> None:
        self._seen: deque[Observation] = deque()
        # Of equal times the answer comes first: who was given up in that moment had not answered yet.
        self._sorted: list[tuple[float, bool]] = []
        self._size = size
        self._seconds = seconds

    def add(self, observation: Observation) -> None:
        """Take one more, and let the oldest go where there is no room."""
        self._seen.append(observation)
        insort(self._sorted, _rank(observation))
        if len(self._seen) > self._size:
            self._drop()

    def forget(self, now: float) -> None:
        """Let go of what is too old."""
        while self._seen and self._seen[0].at < now - self._seconds:
            self._drop()

    def _drop(self) -> None:
        del self._sorted[bisect_left(self._sorted, _rank(self._seen.popleft()))]

    def good(self) -> int:
        """Count the good answers."""
        return sum(seen.good for seen in self._seen)

    def quantile(self, tail: float) -> float:
        """Return the time that a good answer exceeds with probability `tail`; ValueError where nothing was seen.

        Where so many requests are censored that nobody knows, it is the longest time that any of them was waited for.
        """
        if not self._seen:
            raise ValueError("nothing was observed")
        at_risk, surviving, seconds = len(self._seen), 1.0, 0.0
        for seconds, censored in self._sorted:
            if not censored:
                surviving *= 1 - 1 / at_risk
                if surviving <= tail + _ROUNDING:
                    return seconds
            at_risk -= 1
        return seconds


def _rank(seen: Observation) -> tuple[float, bool]:
    return seen.seconds, not seen.good


class Latencies:
    """Keep a window for every vault that is asked, as many as the policies name."""

    def __init__(self, clock: Clock, settings: HedgeSettings | None = None) -> None:
        self._clock = clock
        self._settings = settings or HedgeSettings()
        self._windows: defaultdict[str, Window] = defaultdict(self._window)

    @contextmanager
    def timed(self, vault: str) -> Iterator[None]:
        """Observe the request that the block makes: a good answer if it ends, censored if anything is raised."""
        start, good = self._clock.monotonic(), False
        try:
            yield
            good = True
        finally:
            now = self._clock.monotonic()
            self._windows[vault].add(Observation(now, now - start, good))

    def offset(self, vault: str, tail: float, patience: float = 1.0) -> float:
        """Return for how long a request is left alone: as all but the slowest `tail` take, times `patience`."""
        settings, window = self._settings, self._windows[vault]
        window.forget(self._clock.monotonic())
        warm = window.good() >= settings.warm_up
        offset = window.quantile(tail) * patience if warm else settings.initial
        return min(max(offset, settings.floor), settings.cap)

    def _window(self) -> Window:
        return Window(self._settings.window, self._settings.window_seconds)
