"""`twinlock demo`: the whole story in a temporary home; it touches no other."""

from pathlib import Path
from typing import Annotated

import typer

from cli.demo import story
from cli.demo.stage import Twinlock

Keep = Annotated[
    Path | None, typer.Option("--keep", metavar="DIR", help="Work in DIR, and leave everything there to look at.")
]


def register(app: typer.Typer, twinlock: Twinlock) -> None:
    """Add the command to the program, which it runs itself for every step."""

    @app.command("demo")
    def demo(keep: Keep = None) -> None:
        """Show the whole job with real mail: take over, prove, rotate, revoke, revert."""
        raise typer.Exit(story.run(keep, twinlock))
