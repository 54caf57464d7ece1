"""What the operator's commands write to the audit log with, and what they act on approvals with."""

from collections.abc import Sequence

from cli import home
from cli.wiring.marking import guard_of
from cli.wiring.parts import Parts
from schemas.names import OPERATOR
from twinlock.approvals.acting import Approvals
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar
from twinlock.errors import TwinlockError
from twinlock.store.unit import Unit

_WRITERS = {True: OPERATOR, False: "embedded"}


def audit_of(parts: Parts) -> AuditLog | None:
    """Return the audit log for a command to write to, or none where this home has no key for it."""
    place = parts.settings.home
    if not home.has_audit_key(place):
        return None
    return AuditLog(parts.store, _WRITERS[parts.settings.is_fleet], home.read_audit_key(place), parts.clock)


async def note(
    parts: Parts, unit: Unit, kind: str, tenant_id: str | None = None, **detail: Scalar | Sequence[Scalar]
) -> None:
    """Write down what an administrator does, with the change itself or not at all."""
    audit = audit_of(parts)
    if audit is not None:
        await audit.append(unit, AuditEntry(kind, tenant_id, None, {**detail, "sender": unit.sender}))


def approvals_of(parts: Parts) -> Approvals:
    """Return what commands act on approvals with; raise where nothing could be audited."""
    audit = audit_of(parts)
    if audit is None:
        raise TwinlockError(
            f"{parts.settings.home} has no key for the audit log, and this has to be audited",
            hint="run it in the home that `twinlock init` made",
        )
    guard = guard_of(parts.settings.home)
    return Approvals(parts.store, audit, parts.settings.approvals, not parts.settings.is_fleet, guard)
