"""`twinlock demo`: the whole story in a temporary home; it touches no other."""

from pathlib import Path
from typing import Annotated

import typer

from cli.demo import story
from cli.demo.stage import Twinlock
from cli.settings import CUSTOMER

Keep = Annotated[
    Path | None, typer.Option("--keep", metavar="DIR", help="Work in DIR, and leave everything there to look at.")
]
Customer = Annotated[
    Path | None,
    typer.Option(
        "--customer",
        metavar="FILE",
        envvar=CUSTOMER,
        help="On a fleet: the customer's own logins to two OpenBao servers, which take the place of embedded vaults.",
    ),
]


def register(app: typer.Typer, twinlock: Twinlock) -> None:
    """Add the command to the program, which it runs itself for every step."""

    @app.command("demo")
    def demo(keep: Keep = None, customer: Customer = None) -> None:
        """Show the whole job with real mail: take over, prove, rotate, revoke, revert."""
        raise typer.Exit(story.run(keep, twinlock, customer=customer))
