"""`twinlock database`: what a fleet needs in PostgreSQL."""

from pathlib import Path
from typing import Annotated

import typer

from cli.command import homeless
from cli.output import Result
from cli.roles import SQL, DatabasePlace, write_roles
from cli.settings import Settings

noun = typer.Typer(help="The database of a fleet.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="database")


@homeless(noun, "roles")
def make_roles(
    settings: Settings,
    timeout: float,
    shows: bool,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the secrets go.")],
    host: Annotated[str, typer.Option("--host", metavar="HOST[:PORT]", help="Where PostgreSQL will be.")],
    name: Annotated[str, typer.Option("--name", metavar="DB", help="The database.")] = "twinlock",
    tls: Annotated[bool, typer.Option("--tls", help="It is reached by TLS, its certificate checked.")] = False,
) -> Result:
    """Make a role for every worker and the operator, and the SQL that PostgreSQL loads them from."""
    made = write_roles(folder, DatabasePlace(host, name, tls))
    document = {"folder": str(folder), "roles": str(folder / SQL), "made": made}
    said = f"made {len(made)} roles" if made else "every role was there already"
    return Result(
        document, [f"{said}; PostgreSQL loads them from {folder / SQL}, and twinlock init grants them what they may do"]
    )
