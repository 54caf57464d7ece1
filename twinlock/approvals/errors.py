"""What is refused; whoever acts for people audits every refusal."""

from twinlock.errors import TwinlockError


class Refused(TwinlockError):
    """Refuse a request, a signature, or to carry out what was signed."""


class BrokenApprovers(Refused):
    """Say that a tenant's approvers are not those that were signed for: nothing they sign counts."""

    def __init__(self, tenant_id: str, fault: str) -> None:
        super().__init__(
            f"the approvers of tenant {tenant_id} do not verify: {fault}",
            hint="somebody changed the database; compare it with a backup and with the audit log",
        )
