"""`twinlock errors`: the decision table, printed by the very function that decides."""

from dataclasses import asdict

import typer

from cli.command import homeless
from cli.output import Result, Table
from cli.settings import Settings
from twinlock.custody.decision import table

_COLUMNS = ("situation", "user", "service", "reason", "alerts")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    homeless(app, "errors")(errors)


def errors(settings: Settings, timeout: float, shows: bool) -> Result:
    """Print what happens when root keys do not answer, as it runs."""
    rows = [asdict(row) | {"alerts": list(row.alerts)} for row in table()]
    return Result({"rows": rows}, [Table(_COLUMNS, [[row[name] for name in _COLUMNS] for row in rows])])
