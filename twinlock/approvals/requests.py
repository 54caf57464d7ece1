"""Request an approval, sign it, and check everything anew before it is carried out (law 16).

Nothing that a row says is believed for itself: the statement is what was signed, and it has to be about this request,
this tenant, this policy as it stands and this installation, at every signature and at the end.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.identifiers import ApprovalState
from twinlock.approvals.approvers import Tenant, lock_tenant, read_approvers
from twinlock.approvals.chain import NEEDED, Approver, Approvers, Signature, fits
from twinlock.approvals.ending import end
from twinlock.approvals.errors import Refused
from twinlock.approvals.installation import read_installation
from twinlock.approvals.rows import (
    Approval,
    add_approval,
    add_signature,
    find_approval,
    list_approvals,
    set_state,
)
from twinlock.approvals.settings import ApprovalSettings
from twinlock.approvals.statement import (
    Action,
    BadStatement,
    NamedApprover,
    NamedPolicy,
    NamedPurge,
    NewKey,
    Statement,
    parse,
)
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.policies import Policy, load_policy
from twinlock.errors import TwinlockError
from twinlock.keys.signing import fingerprint
from twinlock.store.unit import Reader, Unit, new_id

_UNDECIDED = (ApprovalState.OPEN, ApprovalState.APPROVED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what somebody wants approved; `public_key` is a new approver's, `id` the request's where it is derived."""

    action: Action
    subject: str
    reason: str = ""
    policy: Policy | None = None
    keys: tuple[NewKey, ...] = ()
    approver: NamedApprover | None = None
    public_key: bytes | None = None
    although_revoked: bool = False
    id: str = ""
    purge: NamedPurge | None = None

    @property
    def wait(self) -> timedelta:
        """Return how long what is approved waits before it is carried out."""
        return timedelta(seconds=0 if self.purge is None else self.purge.wait_seconds)


@dataclass(frozen=True, slots=True)
class Checked:
    """Hold a request that may be carried out now, with what was signed and by whom it may be."""

    approval: Approval
    statement: Statement
    approvers: Approvers


async def request(unit: Unit, tenant: Tenant, wanted: Wanted, settings: ApprovalSettings) -> Approval:
    """Ask for the signatures of two approvers; the same request is not made twice while it is open.

    Raise `Refused` where the tenant has no two approvers.
    """
    await lock_tenant(unit, tenant.id)
    now = unit.clock.now()
    if not (await read_approvers(unit, tenant.id)).suffice(now):
        raise Refused(
            f"tenant {tenant.name} has no two approvers whose signatures count",
            hint=f"add them: twinlock approver add {tenant.name} NAME --public-key FILE",
        )
    for known in await list_approvals(unit, tenant.id, ApprovalState.OPEN):
        if known.state_at(now) is ApprovalState.OPEN and is_same(known, wanted):
            return known
    # As long as it may wait for signatures, then for its time, and once more as long for whoever carries it out.
    made = await _made(unit, tenant, wanted, now + timedelta(seconds=settings.request_seconds) + 2 * wanted.wait)
    await add_approval(unit, made)
    return made


async def sign(unit: Unit, request_id: str, by: str, signature: bytes) -> Approval:
    """Add an approver's signature and return the request as it stands then; raise `Refused`, or `NotFound`."""
    approval = await locked(unit, request_id)
    now = unit.clock.now()
    _refuse_closed(approval, now, ApprovalState.OPEN)
    statement = await examine(unit, approval)
    _refuse_late(approval, statement, now)
    approvers = await read_approvers(unit, approval.tenant_id)
    approver = _approver(approvers, approval, by, now)
    if not fits(approver, statement, signature):
        raise Refused(
            f"this is no signature of {by} over the statement of request {approval.id}",
            hint=f"sign exactly these bytes: twinlock approval statement {approval.id}",
        )
    if approver.fingerprint in {each.signature.fingerprint for each in approval.signed}:
        raise Refused(f"{by} has signed request {approval.id} already", hint="it needs two different approvers")
    await add_signature(unit, approval, by, Signature(approver.fingerprint, signature))
    signed = await find_approval(unit, request_id)
    if len(approvers.signers(statement, signed.signatures, now)) >= NEEDED:
        await set_state(unit, signed, ApprovalState.APPROVED)
    return await find_approval(unit, request_id)


async def check(unit: Unit, request_id: str) -> Checked:
    """Check a request again, which is to be carried out in this transaction; raise `Refused`."""
    approval = await locked(unit, request_id)
    now = unit.clock.now()
    _refuse_closed(approval, now, ApprovalState.APPROVED)
    statement = await examine(unit, approval)
    approvers = await read_approvers(unit, approval.tenant_id)
    if len(approvers.signers(statement, approval.signatures, now)) < NEEDED:
        raise Refused(f"request {approval.id} is not signed by two approvers who count", hint="request it again")
    return Checked(approval, statement, approvers)


async def cancel(unit: Unit, request_id: str, audit: AuditLog) -> Approval:
    """End a request that was not carried out yet; raise `Refused` where it is too late."""
    approval = await locked(unit, request_id)
    if approval.state not in _UNDECIDED:
        raise Refused(f"request {approval.id} is {approval.state.value}", hint="see: twinlock approval list --open")
    await end(unit, approval, ApprovalState.CANCELLED, audit)
    return await find_approval(unit, request_id)


async def locked(unit: Unit, request_id: str) -> Approval:
    """Return a request as it stays for the rest of the transaction."""
    await lock_tenant(unit, (await find_approval(unit, request_id)).tenant_id)
    return await find_approval(unit, request_id)


def is_same(known: Approval, wanted: Wanted) -> bool:
    """Tell whether a request asks for just this: what was signed of it counts for whoever asks again."""
    policy = None if wanted.policy is None else wanted.policy.id
    try:
        told = parse(known.statement)
    except BadStatement:
        return False  # nobody can sign it
    return (known.action, known.policy_id, known.subject, told.keys, told.approver, told.although_revoked) == (
        wanted.action,
        policy,
        wanted.subject,
        wanted.keys,
        wanted.approver,
        wanted.although_revoked,
    )


async def _made(unit: Unit, tenant: Tenant, wanted: Wanted, expires: datetime) -> Approval:
    policy, now, request_id = wanted.policy, unit.clock.now(), wanted.id or new_id()
    try:
        statement = Statement(
            action=wanted.action,
            installation=await read_installation(unit),
            tenant_id=tenant.id,
            tenant=tenant.name,
            request=request_id,
            reason=wanted.reason,
            requested=now,
            expires=expires,
            policy=None if policy is None else NamedPolicy(policy.id, policy.name, policy.newest_generation),
            keys=wanted.keys,
            approver=wanted.approver,
            although_revoked=wanted.although_revoked,
            purge=wanted.purge,
        )
    except BadStatement as bad:
        raise TwinlockError(str(bad), hint="write it shorter, as plain text") from None
    return Approval(
        id=request_id,
        tenant_id=tenant.id,
        tenant=tenant.name,
        policy_id=None if policy is None else policy.id,
        action=wanted.action.value,
        subject=wanted.subject,
        state=ApprovalState.OPEN,
        statement=statement.encode(),
        public_key=wanted.public_key,
        requested_at=now,
        expires_at=expires,
        due=None,
        version=1,
        signed=(),
    )


def _refuse_closed(approval: Approval, now: datetime, wanted: ApprovalState) -> None:
    late = approval.state in _UNDECIDED and now >= approval.expires_at
    found = ApprovalState.EXPIRED if late else approval.state
    if found is not wanted:
        raise Refused(f"request {approval.id} is {found.value}", hint="see: twinlock approval list --open")


def _refuse_late(approval: Approval, statement: Statement, now: datetime) -> None:
    """Refuse to sign what would have no time left to wait, and to be carried out after that."""
    wait = timedelta(seconds=0 if statement.purge is None else statement.purge.wait_seconds)
    if now >= statement.expires - 2 * wait:
        raise Refused(f"request {approval.id} can't be signed any more", hint="cancel it, and request it again")


async def examine(reader: Reader, approval: Approval) -> Statement:
    """Return the statement of a request; raise `Refused` unless it is about this request and things as they stand."""
    try:
        statement = parse(approval.statement)
    except BadStatement:
        raise Refused(f"request {approval.id} holds no statement", hint="request it again") from None
    policy, named = None, statement.policy
    if approval.policy_id is not None:
        policy = await load_policy(reader, approval.policy_id)
    told = (
        statement.installation == await read_installation(reader),
        statement.tenant_id == approval.tenant_id,
        statement.request == approval.id,
        statement.action == approval.action,
        statement.expires == approval.expires_at,
        (None if named is None else (named.id, named.generation, statement.tenant_id)) == _place(policy),
        _is_of_key(statement, approval.public_key),
        (statement.action is Action.PURGE) == (statement.purge is not None),
    )
    if not all(told):
        raise Refused(
            f"the statement of request {approval.id} is about something else, or things are not as it says any more",
            hint="request it again",
        )
    return statement


def _place(policy: Policy | None) -> tuple[str, int, str] | None:
    return None if policy is None else (policy.id, policy.newest_generation, policy.tenant_id)


def _is_of_key(statement: Statement, public_key: bytes | None) -> bool:
    if statement.approver is None:
        return public_key is None
    return public_key is not None and fingerprint(public_key).hex() == statement.approver.fingerprint


def _approver(approvers: Approvers, approval: Approval, name: str, now: datetime) -> Approver:
    found = approvers.named(name)
    if found is None:
        raise Refused(
            f"{name} is no approver of tenant {approval.tenant}", hint=f"see: twinlock approver list {approval.tenant}"
        )
    if not found.counts(now):
        moment = found.counts_from.isoformat(timespec="seconds")
        raise Refused(f"the signatures of {name} count from {moment}", hint="let the other two sign")
    return found
