"""The memory vault: the same behaviour without files or RSA, and with a script that tests and demos write."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from twinlock.keys.ports import (
    Clock,
    Corrupt,
    Denied,
    Destruction,
    Misconfigured,
    Outcome,
    Unavailable,
    Unclear,
    VaultFailure,
)
from twinlock.vaults.software.material import generate_aes
from twinlock.vaults.software.shelf import MemoryShelf
from twinlock.vaults.software.vault import SoftwareVault

_CLASSIFIER = "memory/1"
_FAILURES: dict[Outcome, type[VaultFailure]] = {
    kind.outcome: kind for kind in (Unavailable, Denied, Unclear, Misconfigured, Corrupt)
}

Answer = Outcome | VaultFailure
T = TypeVar("T")


class MemoryVault(SoftwareVault):
    """Keep keys of any scheme in this process; root keys are AES-256-GCM, so that tests are fast.

    `calls` counts what was asked, by operation and URI; `in_flight` is how many calls have not returned yet.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(MemoryShelf(), clock, generate_aes, None)
        self.calls: Counter[tuple[str, str]] = Counter()
        self.in_flight = 0
        self._next: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self._always: dict[str, Answer] = {}
        self._seconds: dict[str, float] = {}
        self._retention = timedelta()
        self._destroyed: dict[str, datetime] = {}

    def script(self, uri: str, *answers: Answer) -> None:
        """Answer the next calls for a key so, one call each; `Outcome.OK` lets a call through."""
        self._next[uri].extend(answers)

    def hold(self, uri: str, answer: Answer) -> None:
        """Answer every call for a key so once its script has run out, until it is held at `Outcome.OK`."""
        self._always[uri] = answer

    def slow(self, uri: str, seconds: float) -> None:
        """Take that long, on the injected clock, for every call for a key."""
        self._seconds[uri] = seconds

    def retain(self, seconds: float) -> None:
        """Keep destroyed keys that long before they are gone for good, as vaults do that can bring a key back."""
        self._retention = timedelta(seconds=seconds)

    async def destroy(self, uri: str) -> Destruction:
        """Destroy an availability key; where keys are retained, say when it is gone for good."""
        done = await super().destroy(uri)
        final_at = self._destroyed.setdefault(uri, self._clock.now()) + self._retention
        return done if final_at <= self._clock.now() else Destruction(final_at)

    async def _answer(self, operation: str, uri: str, work: Callable[[], T]) -> T:
        self.calls[operation, uri] += 1
        self.in_flight += 1
        try:
            answer = self._next[uri].popleft() if self._next[uri] else self._always.get(uri, Outcome.OK)
            if seconds := self._seconds.get(uri):
                await self._clock.sleep(seconds)
            if answer is not Outcome.OK:
                raise _failure(answer, uri)
            return await super()._answer(operation, uri, work)
        finally:
            self.in_flight -= 1


def _failure(answer: Answer, uri: str) -> VaultFailure:
    if isinstance(answer, VaultFailure):
        return answer
    kind = _FAILURES[answer]
    return kind(
        f"scripted: {answer}",
        uri=uri,
        raw="scripted",
        classifier=_CLASSIFIER,
        exact=kind is Denied,
        counts=kind is Unavailable,
    )
