"""What waits for signatures, or did: requests, signatures and steps as they are stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, insert, select, update

from schemas.identifiers import ApprovalState
from twinlock.approvals.chain import Signature
from twinlock.errors import NotFound
from twinlock.store.tables.approvals import approval_signatures, approval_steps, approvals
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader, Unit

REQUESTED, GRANTED = "requested", "granted"  # the steps that are no state


@dataclass(frozen=True, slots=True)
class Signed:
    """Hold who signed, when, and the signature."""

    name: str
    at: datetime
    signature: Signature


@dataclass(frozen=True, slots=True)
class Approval:
    """Hold a request as one read saw it; `subject` names what it is about, for people."""

    id: str
    tenant_id: str
    tenant: str
    policy_id: str | None
    action: str
    subject: str
    state: ApprovalState
    statement: bytes
    public_key: bytes | None
    requested_at: datetime
    expires_at: datetime
    due: datetime | None
    version: int
    signed: tuple[Signed, ...]

    def state_at(self, now: datetime) -> ApprovalState:
        """Return the state, also where nobody has written down yet that the time is up."""
        return ApprovalState.EXPIRED if self.state is ApprovalState.OPEN and now >= self.expires_at else self.state

    @property
    def signatures(self) -> Sequence[Signature]:
        """Return what was signed, by whoever counted then."""
        return [each.signature for each in self.signed]


async def find_approval(reader: Reader, request_id: str) -> Approval:
    """Return a request by its id; raise `NotFound`."""
    row = await reader.row(_base().where(approvals.c.id == request_id))
    if row is None:
        raise NotFound(f"there is no request {request_id[:64]}", hint="see: twinlock approval list")
    return await _approval(reader, row)


async def list_approvals(
    reader: Reader, tenant_id: str | None = None, state: ApprovalState | None = None
) -> list[Approval]:
    """Return requests in the order in which they came: all, a tenant's, or those that were left in a state."""
    query = _base().order_by(approvals.c.requested_at, approvals.c.id)
    if tenant_id is not None:
        query = query.where(approvals.c.tenant_id == tenant_id)
    if state is not None:
        query = query.where(approvals.c.state == state.value)
    return [await _approval(reader, row) for row in await reader.rows(query)]


async def add_approval(unit: Unit, approval: Approval) -> None:
    """Write a new request."""
    row = {
        "id": approval.id,
        "tenant_id": approval.tenant_id,
        "policy_id": approval.policy_id,
        "action": approval.action,
        "subject": approval.subject,
        "state": approval.state.value,
        "statement": approval.statement,
        "public_key": approval.public_key,
        "requested_at": approval.requested_at,
        "expires_at": approval.expires_at,
        "due": approval.due,
        "version": approval.version,
    }
    await unit.execute(insert(approvals).values(row))
    await _add_step(unit, approval.id, approval.version, REQUESTED, None, 0)


async def add_signature(unit: Unit, approval: Approval, name: str, signature: Signature) -> None:
    """Write a signature that was verified."""
    row = {
        "approval_id": approval.id,
        "fingerprint": signature.fingerprint,
        "name": name,
        "signature": signature.signature,
        "at": unit.clock.now(),
    }
    await unit.execute(insert(approval_signatures).values(row))
    await _move(unit, approval, GRANTED, {}, name, len(approval.signed) + 1)


async def set_state(unit: Unit, approval: Approval, state: ApprovalState, due: datetime | None = None) -> None:
    """Write down how far a request is by now."""
    values = {"state": state.value, "due": due or approval.due}
    await _move(unit, approval, state.value, values, None, len(approval.signed))


async def set_due(unit: Unit, approval: Approval, due: datetime) -> None:
    """Write down when what was approved is carried out; that is no step of its own."""
    await unit.execute(update(approvals).where(approvals.c.id == approval.id).values(due=due))


async def _move(
    unit: Unit, approval: Approval, step: str, values: dict[str, Any], approver: str | None, count: int
) -> None:
    version = approval.version + 1
    moved = update(approvals).where(approvals.c.id == approval.id)
    await unit.execute(moved.values(**values, version=version))
    await _add_step(unit, approval.id, version, step, approver, count)


async def _add_step(unit: Unit, request_id: str, version: int, step: str, approver: str | None, count: int) -> None:
    row = {
        "approval_id": request_id,
        "step": step,
        "version": version,
        "approver": approver,
        "approvals": count,
        "at": unit.clock.now(),
        "announced": False,
    }
    await unit.execute(insert(approval_steps).values(row))


def _base() -> Select[*tuple[Any, ...]]:
    return select(approvals, tenants.c.name.label("tenant")).join(tenants)


async def _approval(reader: Reader, row: Row[Any]) -> Approval:
    signed = approval_signatures.c
    query = select(approval_signatures).where(signed.approval_id == row.id).order_by(signed.at, signed.fingerprint)
    return Approval(
        id=row.id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        policy_id=row.policy_id,
        action=row.action,
        subject=row.subject,
        state=ApprovalState(row.state),
        statement=row.statement,
        public_key=row.public_key,
        requested_at=row.requested_at,
        expires_at=row.expires_at,
        due=row.due,
        version=row.version,
        signed=tuple(
            Signed(each.name, each.at, Signature(each.fingerprint, each.signature)) for each in await reader.rows(query)
        ),
    )
