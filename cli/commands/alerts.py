"""`twinlock alerts`: what people have to know of, one alert an episode."""

import sys
from typing import Annotated, Any

import typer
from sqlalchemy import Row, select

from cli.command import command
from cli.options import OptionalTenant
from cli.output import Result, listing, one_line
from cli.session import Session
from twinlock.errors import NotFound
from twinlock.store.tables.tenants import tenants
from workers.alert_emitter import reading

COLUMNS = ("kind", "severity", "audience", "tenant", "state", "count", "last_seen", "detail")

noun = typer.Typer(help="Alerts: raised, repeated with a count, resolved.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="alerts")


@command(noun, "list")
async def show_all(
    session: Session,
    only_open: Annotated[bool, typer.Option("--open", help="Only what still goes on.")] = False,
    tenant: OptionalTenant = None,
) -> Result:
    """List the alerts, the oldest first."""
    async with session.parts.store.read() as reader:
        known = select(tenants.c.id).where(tenants.c.name == tenant)
        if tenant is not None and await reader.row(known) is None:
            raise NotFound(f"there is no tenant {tenant}", hint="see: twinlock tenant list")
        found = await reading.listing(reader, only_open=only_open, tenant=tenant)
    return listing([describe(row) for row in found], COLUMNS, "no alerts")


@command(noun, "tail", documents=False, timed=False)
async def tail(session: Session) -> Result:
    """Write every alert that is new, repeated or resolved from now on, until interrupted."""
    async for row in reading.follow(session.parts.store):
        shown = describe(row)
        said = f"{shown['last_seen']} {row.severity} {row.kind} ({row.tenant}, to {row.audience}): {row.state}, "
        sys.stdout.write(one_line(f"{said}{row.times} times: {row.detail}") + "\n")
        sys.stdout.flush()
    return Result({})


def describe(row: Row[Any]) -> dict[str, Any]:
    """Return an alert as a document."""
    return {
        "id": row.id,
        "kind": row.kind,
        "severity": row.severity,
        "audience": row.audience,
        "tenant": row.tenant,
        "policy": row.policy,
        "slot": row.slot,
        "state": row.state,
        "count": row.times,
        "first_seen": row.first_seen.isoformat(),
        "last_seen": row.last_seen.isoformat(),
        "resolved_at": row.resolved_at and row.resolved_at.isoformat(),
        "detail": row.detail,
        "version": row.version,
    }
