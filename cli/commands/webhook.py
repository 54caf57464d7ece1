"""`twinlock webhook`: who is posted which alerts, as the settings name them."""

from typing import Any

import typer
from sqlalchemy import Table, func, select

from cli.command import command
from cli.output import Result, listing
from cli.session import Session
from twinlock.store.tables.bus import dead_letters, deliveries
from twinlock.store.unit import Reader
from workers.alert_emitter.webhooks import Webhook, consumer

COLUMNS = ("name", "host", "audience", "tenants", "severity", "waiting", "dead")

noun = typer.Typer(help="Webhooks: subscribers to whom alerts are posted.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="webhook")


@command(noun, "list")
async def show_all(session: Session) -> Result:
    """List the webhooks, with how many alerts wait for each and how many were given up."""
    async with session.parts.store.read() as reader:
        found = [await _document(reader, name, hook) for name, hook in session.parts.settings.webhooks.items()]
    return listing(found, COLUMNS, "no webhooks")


async def _document(reader: Reader, name: str, hook: Webhook) -> dict[str, Any]:
    return {
        "name": name,
        "host": hook.host,
        "audience": hook.audience and hook.audience.value,
        "tenants": list(hook.tenants),
        "severity": hook.severity.value,
        "waiting": await _count(reader, deliveries, name),
        "dead": await _count(reader, dead_letters, name),
    }


async def _count(reader: Reader, table: Table, name: str) -> int:
    return int(await reader.scalar(select(func.count()).select_from(table).where(table.c.consumer == consumer(name))))
