"""What was done to the fleet, and what held."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.chaos.faults import Fault

_MOST = 4000  # characters of what went wrong: it may show every row and every log


class Report:
    """Count faults injected and survived, and keep what did not hold."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.broken: list[str] = []
        self.injected: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()
        self._places: set[str] = set()
        self._say = say
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return for how long it runs."""
        return time.monotonic() - self._begun

    def say(self, line: str) -> None:
        """Say something, and when."""
        self._say(f"{self.seconds:6.1f} s  {line}")

    def struck(self, place: str) -> bool:
        """Tell whether a fault struck there."""
        return place in self._places

    def begins(self, fault: Fault, what: str) -> None:
        """Note that a fault is there."""
        self.injected[fault.name] += 1
        self._places.add(fault.place)
        self.say(f"{fault.name}: {what}")

    def over(self, faults: Sequence[Fault]) -> None:
        """Note that everybody works again after some faults."""
        self.survived.update(fault.name for fault in faults)

    def held(self, name: str, check: Callable[[], None]) -> None:
        """See whether something holds, and note it."""
        try:
            check()
        except AssertionError as broken:
            self.breaks(name, broken)
        else:
            self.say(f"holds: {name}")

    def breaks(self, name: str, why: Exception) -> None:
        """Note what does not hold."""
        self.broken.append(f"{name}: {str(why)[:_MOST] or type(why).__name__}")
        self.say(f"BROKEN {self.broken[-1]}")

    def table(self) -> list[str]:
        """Return the faults, a line each."""
        lines = [f"{'fault':36} injected survived"]
        lines += [f"{name:36} {count:8} {self.survived[name]:8}" for name, count in sorted(self.injected.items())]
        return [*lines, f"{'all':36} {self.injected.total():8} {self.survived.total():8}"]
