"""`twinlock mailbox`: mailboxes as they are; `mailbox_content` brings mail in and out."""

from typing import Annotated, Any

import typer

from cli.command import command
from cli.commands import mailbox_content, names
from cli.options import Address, Tenant
from cli.output import Result, fields, listing
from cli.progress import items_bar
from cli.session import Session
from cli.wiring.auditing import audit_of
from schemas.identifiers import MailboxKind, RequestOutcome
from schemas.requests import MoveRequested
from twinlock.content.mailboxes import MailboxStatus, NewMailbox
from twinlock.custody.port import service
from twinlock.errors import TwinlockError

noun = typer.Typer(help="Mailboxes and their mail.")

_COLUMNS = ("address", "state", "percent", "items", "items_encrypted", "data_encryption_policy_id")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    mailbox_content.register(noun)
    app.add_typer(noun, name="mailbox")


@command(noun, "add")
async def add(
    session: Session,
    address: Address,
    tenant: Tenant,
    kind: Annotated[MailboxKind, typer.Option("--kind", help="A shared mailbox needs no licence.")] = MailboxKind.USER,
    unlicensed: Annotated[bool, typer.Option("--unlicensed", help="No customer policy may take it.")] = False,
) -> Result:
    """Add an empty mailbox, under the service policy."""
    new = NewMailbox(names.address(address), names.tenant_name(tenant), kind, not unlicensed)
    await session.parts.mailboxes.add(new, session.asker(service("add-mailbox")))
    return Result(_document(await session.parts.mailboxes.show(address)), [f"added mailbox {address}"])


@command(noun, "show")
async def show(session: Session, address: Address) -> Result:
    """Show a mailbox and how far its re-encryption is."""
    document = _document(await session.parts.mailboxes.show(address))
    return Result(document, [fields(document)])


@command(noun, "list")
async def show_all(session: Session, tenant: Tenant) -> Result:
    """List a tenant's mailboxes."""
    found = [_document(status) async for status in session.parts.mailboxes.list(tenant)]
    return listing(found, _COLUMNS, "no mailboxes")


@command(noun, "move", waits=True)
async def move(session: Session, address: Address) -> Result:
    """Re-encrypt a whole mailbox under a new mailbox key, now."""
    watch = items_bar("re-encrypting", session.shows)
    asked = await session.ask(MoveRequested(mailbox=names.address(address)), watch)
    if asked.answer is None:
        return Result({"id": asked.id}, [f"requested: {asked.id}"])
    if asked.answer.outcome is not RequestOutcome.DONE:
        raise TwinlockError(asked.answer.detail, hint=asked.answer.answer.get("hint", ""))
    items = asked.answer.answer["items"]
    return Result({"items": items}, [f"moved {address}: {items} {'item' if items == 1 else 'items'} re-encrypted"])


@command(noun, "remove")
async def remove(session: Session, address: Address) -> Result:
    """Remove a mailbox with all its items."""
    count = await session.parts.mailboxes.remove(address, session.cause, audit_of(session.parts))
    return Result({"deleted": count}, [f"removed {address} with {count} {'item' if count == 1 else 'items'}"])


def _document(status: MailboxStatus) -> dict[str, Any]:
    return {
        "address": status.address,
        "tenant": status.tenant,
        "kind": status.kind and status.kind.value,
        "licensed": status.licensed,
        "is_encrypted": status.is_encrypted,
        "data_encryption_policy_id": status.policy,
        "policy_version": status.policy_version,
        "items": status.items,
        "items_encrypted": status.items_encrypted,
        "percent": status.percent,
        "state": status.state,
    }
