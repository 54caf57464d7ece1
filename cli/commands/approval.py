"""`twinlock approval`: what waits for the signatures of two people, what they sign, and their signatures."""

from pathlib import Path
from typing import Annotated

import typer

from cli.command import command
from cli.commands import names
from cli.commands.approval_documents import carried_out, describe, how_to_sign
from cli.failures import UsageFault
from cli.options import OptionalTenant
from cli.output import Failure, Result, fields, listing
from cli.session import Session
from cli.wiring.auditing import approvals_of
from schemas.identifiers import ApprovalState
from twinlock.approvals.approvers import find_tenant
from twinlock.approvals.rows import Approval, find_approval, list_approvals
from twinlock.approvals.statement import BadStatement, Statement, parse
from twinlock.errors import TwinlockError
from twinlock.keys.signing import SIGNATURE_BYTES, SigningKey

_COLUMNS = ("id", "action", "tenant", "subject", "state", "approvals", "due")
_MOST_BYTES = 64 * 1024  # no key and no signature is as long

noun = typer.Typer(help="What waits for the signatures of two approvers.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The request's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="approval")


@command(noun, "list")
async def show_all(
    session: Session,
    tenant: OptionalTenant = None,
    pending: Annotated[bool, typer.Option("--open", help="Only what waits for signatures.")] = False,
) -> Result:
    """List the requests, the oldest first."""
    now = session.parts.clock.now()
    async with session.parts.store.read() as reader:
        owner = None if tenant is None else (await find_tenant(reader, names.tenant_name(tenant))).id
        found = [describe(each, now) for each in await list_approvals(reader, owner)]
    shown = [each for each in found if each["state"] == ApprovalState.OPEN or not pending]
    return listing(shown, _COLUMNS, "no requests")


@command(noun, "show")
async def show(session: Session, request: Id) -> Result:
    """Show a request."""
    async with session.parts.store.read() as reader:
        document = describe(await find_approval(reader, request), session.parts.clock.now())
    return Result(document, [fields(document)])


@command(noun, "statement")
async def statement(session: Session, request: Id) -> Result:
    """Print the exact bytes to sign elsewhere."""
    async with session.parts.store.read() as reader:
        found = await find_approval(reader, request)
    text = _parsed(found).encode().decode("ascii")
    document = {**describe(found, session.parts.clock.now()), "statement": text}
    return Result(document, [text.removesuffix("\n")])


@command(noun, "approve", waits=True)
async def approve(
    session: Session,
    request: Id,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="The approver who signs.")],
    private_key: Annotated[
        Path | None, typer.Option("--private-key", metavar="FILE", help="The approver's private key, to sign here.")
    ] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", metavar="FILE", help="A signature that was made elsewhere: 64 bytes.")
    ] = None,
) -> Result:
    """Add an approver's signature; with the second one it is carried out."""
    names.approver_name(by)
    if private_key is not None and signature is None:
        async with session.parts.store.read() as reader:
            found = _parsed(await find_approval(reader, request))
        signed = _key(private_key).sign(found.label, found.body)
    elif signature is not None and private_key is None:
        signed = _signature(signature)
    else:
        raise UsageFault("say what signs", hint="--private-key FILE to sign here, or --signature FILE")
    approval = await approvals_of(session.parts).approve(session.cause, request, by, signed)
    if session.wait:
        approval = await carried_out(session, approval)
    document = describe(approval, session.parts.clock.now())
    return Result(document, how_to_sign(approval), _failure(approval, document["state"]))


@command(noun, "cancel")
async def cancel(session: Session, request: Id) -> Result:
    """End a request that was not carried out yet."""
    approval = await approvals_of(session.parts).cancel(session.cause, request)
    return Result(describe(approval, session.parts.clock.now()), how_to_sign(approval))


def _failure(approval: Approval, state: str) -> Failure | None:
    if state not in (ApprovalState.CANCELLED, ApprovalState.EXPIRED):
        return None
    why = f"request {approval.id} ({approval.action} {approval.subject}) is {state}, and was not carried out"
    return Failure(why, "see what stood in its way: twinlock alerts list; then request it again")


def _parsed(found: Approval) -> Statement:
    try:
        return parse(found.statement)
    except BadStatement:
        raise TwinlockError(f"request {found.id} holds no statement", hint="request it again") from None


def _key(path: Path) -> SigningKey:
    try:
        return SigningKey.from_pem(_read(path))
    except ValueError as damaged:
        raise TwinlockError(
            f"{path} can't be used: {damaged}", hint="an Ed25519 key in PEM (PKCS #8), without a passphrase"
        ) from None


def _signature(path: Path) -> bytes:
    found = _read(path)
    if len(found) != SIGNATURE_BYTES:
        raise TwinlockError(
            f"{path} is no Ed25519 signature: it has {len(found)} bytes, not {SIGNATURE_BYTES}",
            hint="openssl pkeyutl -sign -rawin -inkey KEY -in STATEMENT -out SIGNATURE",
        )
    return found


def _read(path: Path) -> bytes:
    with path.open("rb") as source:
        return source.read(_MOST_BYTES)
