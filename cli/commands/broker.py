"""`twinlock broker`: what a fleet needs in RabbitMQ."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.command import homeless
from cli.failures import UsageFault
from cli.logins import DEFINITIONS, Place, write_logins
from cli.output import Result
from cli.setting_rules import EMBEDDED
from cli.settings import Settings
from workers.roster import ROSTER

noun = typer.Typer(help="The broker of a fleet.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="broker")


@homeless(noun, "definitions")
def make_definitions(
    settings: Settings,
    timeout: float,
    shows: bool,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the secrets go.")],
    host: Annotated[str, typer.Option("--host", metavar="HOST[:PORT]", help="Where the broker will be.")],
    vhost: Annotated[str, typer.Option("--vhost", metavar="V", help="The virtual host.")] = "/",
    tls: Annotated[bool, typer.Option("--tls", help="The broker is reached by amqps://.")] = False,
) -> Result:
    """Make a login for every worker, the operator and an administrator, and the file that RabbitMQ loads them from."""
    made = write_logins(folder, tuple(ROSTER), Place("amqps" if tls else "amqp", host, vhost))
    document = {"folder": str(folder), "definitions": str(folder / DEFINITIONS), "made": made}
    said = f"made {len(made)} logins" if made else "every login was there already"
    return Result(document, [f"{said}; RabbitMQ loads them from {folder / DEFINITIONS}"])


@homeless(noun, "declare")
def declare_all(settings: Settings, timeout: float, shows: bool) -> Result:
    """Declare exchanges, queues and bindings; what exists stays as it is, and nothing is deleted."""
    if settings.broker == EMBEDDED:
        raise UsageFault(f"the broker is {EMBEDDED}, which needs nothing", hint="set TWINLOCK_BROKER=amqp://…")
    from cli.declaring import declared_on  # the broker's library, which no other command needs

    with asyncio.Runner() as runner:
        declared = runner.run(declared_on(settings.broker, timeout))
    document = {
        "broker": settings.shown_broker,
        "exchanges": declared.exchanges,
        "queues": declared.queues,
        "bindings": declared.bindings,
    }
    said = f"{len(declared.exchanges)} exchanges, {len(declared.queues)} queues and {declared.bindings} bindings exist"
    return Result(document, [f"{said} on {settings.shown_broker}"])
