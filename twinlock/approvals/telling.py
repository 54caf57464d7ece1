"""Tell of approvals with events, and of every change of the approvers with an alert; nothing depends on either."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select, update

from schemas.event import Event
from schemas.facts import AlertRaised, ApprovalGranted, ApprovalRequested, ApprovalSettled
from schemas.identifiers import MAX_DETAIL, ApprovalState, Audience, Severity
from twinlock.approvals.approvers import lock_tenant
from twinlock.approvals.chain import NEEDED, Change
from twinlock.approvals.ending import end
from twinlock.approvals.rows import GRANTED, REQUESTED, find_approval
from twinlock.approvals.statement import Action
from twinlock.custody.audit.log import AuditLog
from twinlock.store.tables.approvals import approval_steps, approvals, approver_changes
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Reader, Store, Unit, new_id

_OF_PURGES = {
    REQUESTED: "a purge is requested; the policy serves nobody meanwhile",
    ApprovalState.APPROVED: "two approvers have signed the purge; it can be cancelled until its time is over",
    ApprovalState.DONE: "the purge has begun, and can't be cancelled any more",
    ApprovalState.CANCELLED: "the purge is off",
    ApprovalState.EXPIRED: "the purge was not carried out in time, and is off",
}
_OF_RECOVERIES = {
    ApprovalState.CANCELLED: "the recovery is off",
    ApprovalState.EXPIRED: "the recovery was not carried out in time, and is off",
}


def alert_recovery(unit: Unit, tenant: str, policy: str | None, detail: str) -> None:
    """Tell the customer and the engineers of one step of a recovery."""
    for audience in (Audience.CUSTOMER, Audience.ENGINEERING):
        unit.emit(
            AlertRaised(
                kind="recovery",
                severity=Severity.WARNING,
                audience=audience,
                tenant=tenant,
                policy=policy,
                detail=detail[:MAX_DETAIL],
            )
        )


def purge_alert(tenant: str, policy: str | None, detail: str) -> AlertRaised:
    """Return the alert of one step of a purge."""
    return AlertRaised(
        kind="purge",
        severity=Severity.CRITICAL,
        audience=Audience.CUSTOMER,
        tenant=tenant,
        policy=policy,
        detail=f"policy {detail}",
    )


async def keep(store: Store, audit: AuditLog) -> None:
    """Close what waited for too long, and tell what those could not who may tell nothing."""
    async with store.read() as reader:
        if not await _has_work(store, reader):
            return
    async with store.begin(Cause(new_id())) as unit:
        await expire(unit, audit)
        await tell(unit)


async def expire(unit: Unit, audit: AuditLog, tenant_id: str | None = None) -> None:
    """Close every request whose time is up, or those of one tenant; whoever has locked one must not lock others."""
    row = approvals.c
    query = select(row.id, row.tenant_id).where(row.state == ApprovalState.OPEN, row.expires_at <= unit.clock.now())
    if tenant_id is not None:
        query = query.where(row.tenant_id == tenant_id)
    for found in await unit.rows(query.order_by(row.tenant_id)):
        await lock_tenant(unit, found.tenant_id)
        approval = await find_approval(unit, found.id)
        if approval.state is ApprovalState.OPEN:
            await end(unit, approval, ApprovalState.EXPIRED, audit)


async def tell(unit: Unit) -> None:
    """Emit what no event tells of yet, once."""
    for step in await _untold_steps(unit):
        row = approval_steps.c
        first = update(approval_steps).where(row.number == step.number, row.announced.is_(False))
        if (await unit.execute(first.values(announced=True))).rowcount:
            unit.emit(_fact(step))
            _alert_step(unit, step)
    for change in await _untold_changes(unit):
        key = approver_changes.c
        first = update(approver_changes).where(
            key.tenant_id == change.tenant_id, key.number == change.number, key.announced.is_(False)
        )
        if (await unit.execute(first.values(announced=True))).rowcount:
            unit.emit(_alert(change))


async def _has_work(store: Store, reader: Reader) -> bool:
    row = approvals.c
    due = select(row.id).where(row.state == ApprovalState.OPEN, row.expires_at <= store.clock.now())
    if await reader.row(due.limit(1)) is not None:
        return True
    return bool(await _untold_steps(reader) or await _untold_changes(reader))


async def _untold_steps(reader: Reader) -> Sequence[Row[Any]]:
    row = approval_steps.c
    row_of = approvals.c
    told = select(approval_steps, row_of.action, row_of.policy_id, row_of.subject, tenants.c.name.label("tenant"))
    joined = told.join(approvals, approvals.c.id == row.approval_id).join(
        tenants, tenants.c.id == approvals.c.tenant_id
    )
    return await reader.rows(joined.where(row.announced.is_(False)).order_by(row.number))


async def _untold_changes(reader: Reader) -> Sequence[Row[Any]]:
    row = approver_changes.c
    told = select(approver_changes, tenants.c.name.label("tenant")).join(tenants)
    return await reader.rows(told.where(row.announced.is_(False)).order_by(row.tenant_id, row.number))


def _fact(step: Row[Any]) -> Event:
    about: dict[str, Any] = {
        "approval": step.approval_id,
        "version": step.version,
        "tenant": step.tenant,
        "action": step.action,
        "policy": step.policy_id,
    }
    if step.step == REQUESTED:
        return ApprovalRequested(**about, needed=NEEDED)
    if step.step == GRANTED:
        return ApprovalGranted(**about, approver=step.approver, approvals=step.approvals)
    return ApprovalSettled(**about, state=step.step)


def _alert_step(unit: Unit, step: Row[Any]) -> None:
    if step.action == Action.PURGE and step.step in _OF_PURGES:
        unit.emit(purge_alert(step.tenant, step.policy_id, f"{step.subject}: {_OF_PURGES[step.step]}"))
    if step.action == Action.RECOVER and step.step in _OF_RECOVERIES:
        alert_recovery(unit, step.tenant, step.policy_id, f"policy {step.subject}: {_OF_RECOVERIES[step.step]}")


def _alert(change: Row[Any]) -> AlertRaised:
    added = change.change == Change.ADD
    detail = f"{change.name} {'joins' if added else 'leaves'} the approvers of tenant {change.tenant}"
    if added and change.counts_from > change.at:
        detail += f", and counts from {change.counts_from.isoformat(timespec='seconds')}"
    signed = bool(change.statement)
    return AlertRaised(
        kind="approver-change",
        severity=Severity.WARNING if signed else Severity.INFO,
        audience=Audience.CUSTOMER,
        tenant=change.tenant,
        detail=detail,
    )
