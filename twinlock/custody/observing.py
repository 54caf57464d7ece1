"""What a custodian tells whoever measures it; nothing depends on being heard, and no secret is told."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from twinlock.custody.operations import Operation
from twinlock.store.unit import Cause


class Observer(Protocol):
    """Hear what a custodian does. Every method returns at once and never raises."""

    def answering(self, operation: str, cause: Cause) -> AbstractContextManager[None]:
        """Be entered around the answer to a call from another process."""
        ...

    def called(self, vault: str, operation: Operation, outcome: str, seconds: float) -> None:
        """Hear of a call of a vault: its outcome, or `cancelled`."""
        ...

    def held_back(self, vault: str, why: str) -> None:
        """Hear that a vault was not called: its breaker, its rate limit or the tenant's budget was in the way."""
        ...

    def hedged(self, vault: str) -> None:
        """Hear that a second root key was asked because the first took long."""
        ...

    def hedge_won(self, vault: str) -> None:
        """Hear that the second one answered first."""
        ...

    def served(self, opened_by: str, source: str) -> None:
        """Hear that a container key was opened: by what kind of key, and whether that came from cache or vault."""
        ...

    def not_served(self, why: str) -> None:
        """Hear that a container key was `refused`, or is `not-yet` to be had."""
        ...


class Unobserved:
    """Be an `Observer` who does not listen."""

    def answering(self, operation: str, cause: Cause) -> AbstractContextManager[None]:
        """Stay out of it."""
        return nullcontext()

    def called(self, vault: str, operation: Operation, outcome: str, seconds: float) -> None:
        """Forget it."""

    def held_back(self, vault: str, why: str) -> None:
        """Forget it."""

    def hedged(self, vault: str) -> None:
        """Forget it."""

    def hedge_won(self, vault: str) -> None:
        """Forget it."""

    def served(self, opened_by: str, source: str) -> None:
        """Forget it."""

    def not_served(self, why: str) -> None:
        """Forget it."""
