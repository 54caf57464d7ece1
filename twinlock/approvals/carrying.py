"""Carry out what two approvers signed: at once for what is here; whatever is not, its own worker carries out."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from sqlalchemy import delete, select

from schemas.identifiers import ApprovalState, PolicyState
from twinlock.approvals.approvers import add_link
from twinlock.approvals.chain import Approvers, BrokenChain, Change, Link
from twinlock.approvals.errors import Refused
from twinlock.approvals.requests import Checked, check
from twinlock.approvals.rows import Approval, find_approval, set_state
from twinlock.approvals.statement import Action
from twinlock.custody.audit.chain import moment
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar
from twinlock.custody.revocation import revocations
from twinlock.custody.rows import read_policy
from twinlock.store.tables.approvals import approval_signatures, approvals
from twinlock.store.unit import Unit


@dataclass(frozen=True, slots=True)
class Done:
    """Hold when something takes effect that was carried out, where that is later."""

    due: datetime | None = None


Carry = Callable[[Unit, Checked, AuditLog], Awaitable[Done]]


async def carry_out(unit: Unit, approval: Approval, audit: AuditLog) -> Approval:
    """Carry out an approved request, where nobody else has to; raise `Refused` where it may not be any more."""
    carry = _CARRIED.get(approval.action)
    if carry is None:
        return approval
    checked = await check(unit, approval.id)
    done = await carry(unit, checked, audit)
    await set_state(unit, checked.approval, ApprovalState.DONE, done.due)
    signers = [each.name for each in checked.approval.signed]
    detail = {"request": approval.id, "action": approval.action, "approvers": signers, "sender": unit.sender}
    await audit.append(unit, AuditEntry("approval-done", approval.tenant_id, approval.policy_id, detail))
    return await find_approval(unit, approval.id)


async def change_approvers(unit: Unit, approvers: Approvers, link: Link, audit: AuditLog) -> Approvers:
    """Write a change of the approvers, with its entry; raise `Refused` where it may not be."""
    try:
        after = await add_link(unit, approvers, link)
    except BrokenChain as broken:
        raise Refused(f"approver {link.name}: {broken.detail}", hint="see: twinlock approver list TENANT") from None
    kind = "approver-added" if link.change is Change.ADD else "approver-removed"
    detail: dict[str, Scalar | Sequence[Scalar]] = {
        "name": link.name,
        "public_key": link.public_key.hex(),
        "number": link.number,
        "hash": after.head.hex(),
        # With these it can be made again, should the database be restored from an older backup.
        "at": moment(link.at),
        "counts_from": moment(link.counts_from),
        "statement": link.statement.hex(),
        "signatures": [f"{each.fingerprint}:{each.signature.hex()}" for each in link.signatures],
        "sender": unit.sender,
    }
    await audit.append(unit, AuditEntry(kind, approvers.origin.tenant_id, None, detail))
    return after


async def _lift(unit: Unit, checked: Checked, audit: AuditLog) -> Done:
    assert checked.approval.policy_id is not None  # noqa: S101  # its statement names a policy
    policy = await read_policy(unit, checked.approval.policy_id)
    if policy.state is not PolicyState.REVOKED:
        raise Refused(f"policy {policy} is {policy.state.value}: there is no revocation to lift")
    await revocations.change(unit, policy.id, PolicyState.ACTIVE, audit)
    return Done()


async def _add(unit: Unit, checked: Checked, audit: AuditLog) -> Done:
    named, now = checked.statement.approver, unit.clock.now()
    assert named is not None  # noqa: S101  # its statement names an approver
    counts_from = now + timedelta(seconds=named.wait_seconds)
    await change_approvers(unit, checked.approvers, _link(checked, Change.ADD, now, counts_from), audit)
    return Done(counts_from)


async def _remove(unit: Unit, checked: Checked, audit: AuditLog) -> Done:
    now = unit.clock.now()
    link = _link(checked, Change.REMOVE, now, now)
    await change_approvers(unit, checked.approvers, link, audit)
    await _forget_signatures(unit, checked)
    return Done()


def _link(checked: Checked, change: Change, now: datetime, counts_from: datetime) -> Link:
    named, key = checked.statement.approver, checked.approval.public_key
    assert named is not None  # noqa: S101  # its statement names an approver
    assert key is not None  # noqa: S101  # which is the key of that approver
    return Link(
        number=checked.approvers.number + 1,
        change=change,
        name=named.name,
        public_key=key,
        at=now,
        counts_from=counts_from,
        statement=checked.approval.statement,
        signatures=tuple(checked.approval.signatures),
    )


async def _forget_signatures(unit: Unit, checked: Checked) -> None:
    """Take back what a removed approver has signed and is still open: two others have to."""
    named, signed = checked.statement.approver, approval_signatures.c
    assert named is not None  # noqa: S101  # its statement names an approver
    pending = select(approvals.c.id).where(
        approvals.c.tenant_id == checked.approval.tenant_id,
        approvals.c.state == ApprovalState.OPEN.value,
        approvals.c.id != checked.approval.id,
    )
    gone = delete(approval_signatures).where(signed.fingerprint == named.fingerprint, signed.approval_id.in_(pending))
    await unit.execute(gone)


_CARRIED: Mapping[str, Carry] = MappingProxyType(
    {Action.RESTORE_POLICY: _lift, Action.ADD_APPROVER: _add, Action.REMOVE_APPROVER: _remove}
)
