"""The numbers of approvals, in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApprovalSettings:
    """Say when a later approver counts, how long a request waits for its signatures, and a purge after them."""

    newcomer_seconds: float = 72 * 3600.0
    request_seconds: float = 7 * 86400.0
    cooling_off_seconds: float = 72 * 3600.0
