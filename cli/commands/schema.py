"""`twinlock schema`: the public contract as files."""

from pathlib import Path
from typing import Annotated

import typer

from cli.command import homeless
from cli.output import Result
from cli.settings import Settings
from schemas import generate

noun = typer.Typer(help="The schemas of all events.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="schema")


@homeless(noun, "export")
def export(
    settings: Settings,
    timeout: float,
    shows: bool,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write them; made if need be.")],
) -> Result:
    """Write the JSON Schemas and the AsyncAPI document."""
    files = sorted(path.name for path in generate.export(folder))
    return Result({"folder": str(folder), "files": files}, [f"wrote {len(files)} files to {folder}"])
