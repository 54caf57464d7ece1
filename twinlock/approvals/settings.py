"""The numbers of approvals, in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApprovalSettings:
    """Say when a later approver counts, and how long a request waits for its signatures."""

    newcomer_seconds: float = 72 * 3600.0
    request_seconds: float = 7 * 86400.0
