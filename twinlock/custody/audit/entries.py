"""The custodian's audit entries, all in one shape: who asked, for what, how it was answered."""

from collections.abc import Sequence

from twinlock.custody.audit.log import AuditEntry, Scalar
from twinlock.custody.port import Asker, ContainerRef


def entry(
    kind: str, asker: Asker, *, tenant_id: str | None, policy_id: str | None, **detail: Scalar | Sequence[Scalar]
) -> AuditEntry:
    """Make an entry; the initiator, with its purpose, and the cause are in each, and the caller that signed for it."""
    shared: dict[str, Scalar | Sequence[Scalar]] = {
        "initiator": str(asker.initiator),
        "correlation": asker.cause.correlation,
        "causation": asker.cause.causation,
    }
    if asker.caller:
        shared["caller"] = asker.caller
    return AuditEntry(kind, tenant_id, policy_id, {**shared, **detail})


def of_containers(
    kind: str, refs: Sequence[ContainerRef], policy_id: str, asker: Asker, **detail: Scalar
) -> AuditEntry:
    """Make one entry about many generations of container keys, each of them named in it."""
    tenants = {ref.tenant_id for ref in refs}
    return entry(
        kind,
        asker,
        tenant_id=tenants.pop() if len(tenants) == 1 else None,
        policy_id=policy_id,
        containers=[f"{ref.container_id}/{ref.generation}" for ref in refs],
        **detail,
    )
