"""The custodian's audit entries, all in one shape: who asked, for what, how it was answered."""

from collections.abc import Sequence

from twinlock.custody.audit import AuditEntry, Scalar
from twinlock.custody.port import Asker


def entry(
    kind: str, asker: Asker, *, tenant_id: str | None, policy_id: str | None, **detail: Scalar | Sequence[Scalar]
) -> AuditEntry:
    """Make an entry; the initiator, with its purpose, and the cause are in each."""
    shared: dict[str, Scalar | Sequence[Scalar]] = {
        "initiator": str(asker.initiator),
        "correlation": asker.cause.correlation,
        "causation": asker.cause.causation,
    }
    return AuditEntry(kind, tenant_id, policy_id, {**shared, **detail})
