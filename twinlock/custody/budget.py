"""What hedging may cost: a bucket of tokens for every vault."""

from collections import defaultdict

_TAIL = 2.0
_STRETCH = 2.0


class HedgeBudget:
    """Bound the extra requests of each vault to `burst`, and `extra_load` of what it is asked anyway.

    Each vault has its own, so that one tenant's slow vault takes nothing from another's, and the vault that is asked
    instead of a slow one never gets twice its load.
    """

    def __init__(self, extra_load: float, burst: float) -> None:
        self._extra_load = extra_load
        self._burst = burst
        self._tokens: defaultdict[str, float] = defaultdict(lambda: burst)

    @property
    def tail(self) -> float:
        """Return which part of requests, the slowest, is worth an extra one while the bucket is full.

        That is more than can be paid for, and `patience` sees to it that no more is spent than earned. At `extra_load`
        itself a window in which chance put a few more slow answers would have all of them pass for normal.
        """
        return _TAIL * self._extra_load

    def patience(self, vault: str) -> float:
        """Return how many times as long as that to wait: the fewer tokens, the more are kept for the slowest."""
        saved = self._tokens[vault] / self._burst if self._burst else 0.0
        return 1 + _STRETCH * (1 - saved)

    def earn(self, vault: str) -> None:
        """Count a request that is made in any case."""
        self._tokens[vault] = min(self._tokens[vault] + self._extra_load, self._burst)

    def spend(self, vault: str) -> bool:
        """Take leave for one extra request, or learn that there is none."""
        if self._tokens[vault] < 1:
            return False
        self._tokens[vault] -= 1
        return True
