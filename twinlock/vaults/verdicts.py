"""What a reason for a failure comes to: the row of an adapter's table, and the failure that leaves the adapter."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from twinlock.keys.ports import Corrupt, VaultFailure

R = TypeVar("R", bound=StrEnum)


class Fault(Exception, Generic[R]):
    """Carry a reason, and what was answered, up to the seam; each adapter has a class of its own with its reasons."""

    def __init__(self, reason: R, raw: str = "", request_id: str = "", retry_after: float | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.raw = raw
        self.request_id = request_id
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say which class a reason is of, and what a person is told; a canary judges again what is `of_permission`."""

    kind: type[VaultFailure]
    detail: str
    exact: bool = False
    counts: bool = False
    of_permission: bool = False

    def failure(self, fault: Fault[R], uri: str, classifier: str) -> VaultFailure:
        """Return the failure that a fault of this kind leaves the adapter as."""
        raw = fault.raw  # what the vault answered, free of secrets
        if issubclass(self.kind, Corrupt):
            raw = ""  # why bytes do not decrypt is nobody's business (law 2), and neither is how the vault has put it
        return self.kind(
            self.detail,
            uri=uri,
            raw=f"{fault.reason.value} {raw}".strip(),
            request_id=fault.request_id,
            classifier=classifier,
            exact=self.exact,
            counts=self.counts,
            of_permission=self.of_permission,
            retry_after=fault.retry_after,
        )
