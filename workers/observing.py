"""What workers tell whoever measures them; nothing depends on being heard."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from twinlock.store.unit import Cause


class Observer(Protocol):
    """Hear what workers do. Every method returns at once and never raises."""

    def stepping(self, worker: str, cause: Cause) -> AbstractContextManager[None]:
        """Be entered around the slow part of a step; `cause` is the job's."""
        ...

    def reencrypted(self, worker: str, items: int, size: int) -> None:
        """Hear what a step moved, in items and bytes; of one that is begun again, twice."""
        ...


class Unobserved:
    """Be an `Observer` who does not listen."""

    def stepping(self, worker: str, cause: Cause) -> AbstractContextManager[None]:
        """Stay out of it."""
        return nullcontext()

    def reencrypted(self, worker: str, items: int, size: int) -> None:
        """Forget it."""
