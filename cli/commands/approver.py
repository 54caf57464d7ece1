"""`twinlock approver`: the people of a tenant whose signatures approve."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import command
from cli.commands import names
from cli.commands.approval_documents import how_to_sign, moment
from cli.failures import UsageFault
from cli.options import Reason
from cli.output import Result, listing
from cli.session import Session
from cli.wiring.auditing import approvals_of
from schemas.identifiers import ApprovalState
from twinlock.approvals.approvers import find_tenant, read_approvers
from twinlock.approvals.chain import Approver
from twinlock.approvals.rows import Approval, list_approvals
from twinlock.approvals.statement import Action
from twinlock.keys.signing import fingerprint, public_from_pem

ACTIVE, WAITING, REMOVED = "active", "waiting", "removed"
_REQUESTED = {Action.ADD_APPROVER: "requested", Action.REMOVE_APPROVER: "leaving"}
_MOST_BYTES = 64 * 1024  # no key is as long

noun = typer.Typer(help="People whose signatures approve: two of them for whatever is dangerous.")

TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The approver's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="approver")


@command(noun, "add")
async def add(
    session: Session,
    tenant: TenantName,
    name: Name,
    public_key: Annotated[
        Path, typer.Option("--public-key", metavar="FILE", help="The approver's public key: Ed25519, PEM.")
    ],
    reason: Reason = "",
) -> Result:
    """Add an approver: the first two count at once, a later one after two signatures and a time."""
    _check(tenant, name)
    key = _public_key(public_key)
    added = await approvals_of(session.parts).add_approver(session.cause, tenant, name, key, reason)
    if isinstance(added, Approval):
        return _requested(added)
    return Result(_document(tenant, added, ACTIVE), [f"{name} approves for {tenant}: {added.fingerprint}"])


@command(noun, "remove")
async def remove(session: Session, tenant: TenantName, name: Name, reason: Reason = "") -> Result:
    """Remove an approver, which two approvers sign for; while there are fewer the operator alone does it."""
    _check(tenant, name)
    removed = await approvals_of(session.parts).remove_approver(session.cause, tenant, name, reason)
    if isinstance(removed, Approval):
        return _requested(removed)
    return Result(_document(tenant, removed, REMOVED), [f"{name} does not approve for {tenant} any more"])


@command(noun, "list")
async def show_all(session: Session, tenant: TenantName) -> Result:
    """List the approvers of a tenant, and who is to come or go."""
    names.tenant_name(tenant)
    now = session.parts.clock.now()
    async with session.parts.store.read() as reader:
        owner = await find_tenant(reader, tenant)
        members = (await read_approvers(reader, owner.id)).members
        pending = await list_approvals(reader, owner.id, ApprovalState.OPEN)
    pending = [each for each in pending if each.state_at(now) is ApprovalState.OPEN]
    leaving = {each.subject: each.id for each in pending if each.action == Action.REMOVE_APPROVER}
    found = [{**_document(tenant, each, _state(each, now)), "id": leaving.get(each.name)} for each in members]
    found += [_pending(each) for each in pending if each.action == Action.ADD_APPROVER]
    return listing(found, ("name", "fingerprint", "state", "counts_from", "id"), "no approvers")


def _state(approver: Approver, now: datetime) -> str:
    return ACTIVE if approver.counts(now) else WAITING


def _document(tenant: str, approver: Approver, state: str) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "name": approver.name,
        "fingerprint": approver.fingerprint,
        "state": state,
        "counts_from": moment(approver.counts_from),
        "id": None,
    }


def _pending(approval: Approval) -> dict[str, Any]:
    return {
        "tenant": approval.tenant,
        "name": approval.subject,
        "fingerprint": fingerprint(approval.public_key or b"").hex(),
        "state": _REQUESTED[Action(approval.action)],
        "counts_from": None,
        "id": approval.id,
    }


def _requested(approval: Approval) -> Result:
    return Result(_pending(approval), how_to_sign(approval))


def _check(tenant: str, name: str) -> None:
    names.tenant_name(tenant)
    names.approver_name(name)


def _public_key(path: Path) -> bytes:
    with path.open("rb") as source:
        pem = source.read(_MOST_BYTES)
    try:
        return public_from_pem(pem)
    except ValueError as damaged:
        raise UsageFault(
            f"{path} can't be used: {damaged}", hint="make it: openssl pkey -in PRIVATE -pubout -out PUBLIC"
        ) from None
