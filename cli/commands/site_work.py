"""`twinlock site move` and `site status`: what the site re-encryptor does, and how far it is."""

import sys
from typing import Any

import typer
from sqlalchemy import select

from cli.command import command
from cli.commands import names
from cli.commands.site_documents import describe
from cli.options import Geo, Site, Tenant
from cli.output import Result, Table, fields
from cli.progress import bar, items_bar
from cli.session import Session
from schemas.identifiers import RequestOutcome
from schemas.requests import SiteMoveRequested
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.tables.tenants import tenants
from workers.site_reencryptor.standing import GeoStanding, Standing, overall, standings

_COLUMNS = ("geo", "state", "progress", "sites", "sites_done", "seconds_left", "policy")


def register(noun: typer.Typer) -> None:
    """Add the commands to the noun of sites."""
    command(noun, "move", waits=True)(move)
    command(noun, "status")(status)


async def move(session: Session, site: Site) -> Result:
    """Re-encrypt every blob of a site under a new site key, now."""
    tenant, _, name = (await session.parts.sites.show(names.site(site))).name.partition("/")
    wanted = SiteMoveRequested(tenant=tenant, site=name)
    asked = await session.ask(wanted, items_bar("re-encrypting", session.shows))
    if asked.answer is None:
        return Result({"id": asked.id}, [f"requested: {asked.id}"])
    if asked.answer.outcome is not RequestOutcome.DONE:
        raise TwinlockError(asked.answer.detail, hint=asked.answer.answer.get("hint", ""))
    files = asked.answer.answer["files"]
    shown = f"moved {wanted.subject}: {files} {'file' if files == 1 else 'files'} re-encrypted"
    return Result(describe(await session.parts.sites.show(wanted.subject)), [shown])


async def status(session: Session, tenant: Tenant, geo: Geo = None) -> Result:
    """Show how many sites of a tenant, or of one of its geos, are under their newest key."""
    names.tenant_name(tenant)
    wanted = None if geo is None else names.geo(geo)
    async with session.parts.store.read() as reader:
        tenant_id = await reader.scalar(select(tenants.c.id).where(tenants.c.name == tenant))
        if not isinstance(tenant_id, str):
            raise NotFound(f"there is no tenant {tenant}", hint="see: twinlock tenant list")
        found = await standings(reader, tenant_id, session.parts.clock.now())
    if wanted is not None:
        return _one(tenant, wanted, found)
    whole = _document(overall(found))
    view: list[str | Table] = [fields({"tenant": tenant, **whole}), _table(found)]
    return Result({"tenant": tenant, **whole, "geos": [_of_geo(each) for each in found]}, view)


def _one(tenant: str, geo: str, found: list[GeoStanding]) -> Result:
    of_geo = [each for each in found if each.geo == geo]
    standing: Standing = of_geo[0] if of_geo else overall(())
    document = {"tenant": tenant, "geo": geo, "policy": None, **_document(standing)}
    if of_geo:
        document["policy"] = of_geo[0].policy
    return Result(document, [fields(document)])


def _document(standing: Standing) -> dict[str, Any]:
    return {
        "state": standing.state.value,
        "percent": standing.percent,
        "sites": standing.sites,
        "sites_done": standing.sites_done,
        "seconds_left": standing.seconds_left,
        "trouble": standing.trouble,
    }


def _of_geo(standing: GeoStanding) -> dict[str, Any]:
    return {"geo": standing.geo, "policy": standing.policy, **_document(standing)}


def _table(found: list[GeoStanding]) -> Table:
    drawn = sys.stdout.isatty()
    rows = [{**_of_geo(each), "progress": bar(each.percent, drawn)} for each in found]
    return Table(_COLUMNS, [[row[name] for name in _COLUMNS] for row in rows], "no sites", "\ngeos")
