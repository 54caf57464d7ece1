"""`twinlock site`: sites as they are; `site_content` brings files in and out."""

from typing import Annotated

import typer

from cli.command import command
from cli.commands import names, site_content, site_work
from cli.commands.site_documents import describe
from cli.options import OptionalTenant, Site, Tenant
from cli.output import Result, fields, listing
from cli.session import Session
from cli.wiring.auditing import audit_of
from twinlock.content.sites import NewSite
from twinlock.custody.port import service

noun = typer.Typer(help="Sites and their files.")

_COLUMNS = ("site", "geo", "files", "bytes", "files_encrypted", "data_encryption_policy_id")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    site_content.register(noun)
    site_work.register(noun)
    app.add_typer(noun, name="site")


@command(noun, "add")
async def add(
    session: Session,
    site: Annotated[str, typer.Argument(metavar="SITE", help="Its name, with or without TENANT/.")],
    tenant: Tenant,
    geo: Annotated[str, typer.Option("--geo", metavar="G", help="The geo in which it is, such as EUR.")],
) -> Result:
    """Add an empty site, under the policy of its geo, or else the service policy."""
    new = NewSite(names.site_name(site.removeprefix(f"{tenant}/")), names.tenant_name(tenant), names.geo(geo))
    await session.parts.sites.add(new, session.asker(service("add-site")))
    document = describe(await session.parts.sites.show(new.full_name))
    return Result(document, [f"added site {new.full_name} in {geo}"])


@command(noun, "show")
async def show(session: Session, site: Site) -> Result:
    """Show a site and under which policy it is."""
    document = describe(await session.parts.sites.show(names.site(site)))
    return Result(document, [fields(document)])


@command(noun, "list")
async def show_all(
    session: Session,
    tenant: OptionalTenant = None,
    geo: Annotated[str | None, typer.Option("--geo", metavar="G", help="Only this geo.")] = None,
) -> Result:
    """List sites."""
    found = [describe(status) async for status in session.parts.sites.list(tenant, geo and names.geo(geo))]
    return listing(found, _COLUMNS, "no sites")


@command(noun, "remove")
async def remove(session: Session, site: Site) -> Result:
    """Remove a site with all its files."""
    count = await session.parts.sites.remove(names.site(site), session.cause, audit_of(session.parts))
    return Result({"deleted": count}, [f"removed {site} with {count} {'file' if count == 1 else 'files'}"])
