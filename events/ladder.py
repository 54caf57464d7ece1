"""How long a failed delivery waits before its next attempt."""

from dataclasses import dataclass

from events.waiting import Jitter, randomly

_MINUTE = 60.0
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Ladder:
    """Hold the tiers of the retry ladder, in seconds.

    The jitter only shortens (by up to `spread` of a tier), so that a broker with one queue a tier picks the very tier.
    """

    tiers: tuple[float, ...] = (5.0, 30.0, 2 * _MINUTE, 10 * _MINUTE, _HOUR)
    spread: float = 0.2
    jitter: Jitter = randomly

    def delay(self, attempts: int) -> float | None:
        """Return the seconds to wait after that many earlier failures; none: the ladder ends, give the delivery up."""
        if attempts >= len(self.tiers):
            return None
        return self.tiers[attempts] * (1 - self.spread * self.jitter())
