"""`twinlock tenant`: the customer organizations."""

from typing import Annotated, Any

import typer
from sqlalchemy import Row, func, insert, select

from cli.command import command
from cli.commands import names
from cli.output import Result, fields, listing
from cli.session import Session
from cli.wiring.auditing import audit_of, note
from schemas.identifiers import Workload
from twinlock.errors import AlreadyExists, NotFound
from twinlock.store.tables.content import containers
from twinlock.store.tables.custody import policies
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader, new_id
from twinlock.tenancy.removing import Removal

noun = typer.Typer(help="Customer organizations.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The tenant's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="tenant")


@command(noun, "add")
async def add(
    session: Session,
    name: Name,
    trial: Annotated[bool, typer.Option("--trial", help="It can't have customer policies.")] = False,
) -> Result:
    """Add a tenant."""
    names.tenant_name(name)
    async with session.parts.store.begin(session.cause) as unit:
        if await unit.row(select(tenants.c.id).where(tenants.c.name == name)) is not None:
            raise AlreadyExists(f"tenant {name} exists", hint=f"see it: twinlock tenant show {name}")
        row: dict[str, Any] = {"id": new_id(), "name": name, "trial": trial, "created_at": unit.clock.now()}
        await unit.execute(insert(tenants).values(row))
        await note(session.parts, unit, "tenant-added", row["id"], tenant=name, trial=trial)
    return Result({"name": name, "trial": trial}, [f"added tenant {name}{' (trial)' if trial else ''}"])


@command(noun, "list")
async def show_all(session: Session) -> Result:
    """List the tenants."""
    async with session.parts.store.read() as reader:
        found = [await _document(reader, row) for row in await reader.rows(select(tenants).order_by(tenants.c.name))]
    return listing(found, ("name", "trial", "policies", "mailboxes", "sites"), "no tenants")


@command(noun, "show")
async def show(session: Session, name: Name) -> Result:
    """Show a tenant."""
    async with session.parts.store.read() as reader:
        row = await reader.row(select(tenants).where(tenants.c.name == name))
        if row is None:
            raise NotFound(f"there is no tenant {name}", hint=f"add it: twinlock tenant add {name}")
        document = await _document(reader, row)
    return Result(document, [fields(document)])


@command(noun, "remove")
async def remove(session: Session, name: Name) -> Result:
    """Remove a tenant with its mailboxes, sites, policies and approvers; only the audit log still tells of it."""
    parts = session.parts
    removal = Removal(parts.store, parts.mailboxes, parts.sites, audit_of(parts))
    removed = await removal.remove(name, session.cause)
    document = {"deleted": removed.items, "containers": removed.containers, "policies": removed.policies}
    gone = f"{removed.containers} mailboxes and sites, {removed.items} items and files, {removed.policies} policies"
    return Result(document, [f"removed {name} with {gone}"])


async def _document(reader: Reader, row: Row[Any]) -> dict[str, Any]:
    owned = select(func.count()).where(containers.c.tenant_id == row.id)
    return {
        "name": row.name,
        "trial": row.trial,
        "policies": await reader.scalar(select(func.count()).where(policies.c.tenant_id == row.id)),
        "mailboxes": await reader.scalar(owned.where(containers.c.workload == Workload.MAILBOX)),
        "sites": await reader.scalar(owned.where(containers.c.workload == Workload.SITE)),
    }
