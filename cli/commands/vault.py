"""`twinlock vault`: trouble with an embedded vault, for trying and for tests."""

from enum import StrEnum
from typing import Annotated

import typer

from cli.command import command
from cli.output import Result
from cli.session import Session
from twinlock.vaults.software.local import SCHEME

VaultName = Annotated[str, typer.Argument(metavar="VAULT", help="The vault's name, with or without local://.")]

noun = typer.Typer(help="Embedded vaults.")


class Switch(StrEnum):
    """Whether an outage begins or ends."""

    ON = "on"
    OFF = "off"


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="vault")


@command(noun, "outage")
async def outage(
    session: Session,
    vault: VaultName,
    switch: Annotated[Switch, typer.Argument(metavar="on|off")],
) -> Result:
    """Make an embedded vault unreachable, or reachable again."""
    name, on = vault.removeprefix(f"{SCHEME}://"), switch is Switch.ON
    await session.parts.vault.set_outage(name, on)
    said = "does not answer any more" if on else "answers"
    return Result({"vault": name, "outage": on}, [f"vault {name} {said}"])


@command(noun, "delay")
async def delay(
    session: Session,
    vault: VaultName,
    seconds: Annotated[float, typer.Argument(metavar="SECONDS", help="How long it keeps each answer back; 0 ends it.")],
) -> Result:
    """Make an embedded vault slow, or as fast as it was."""
    name = vault.removeprefix(f"{SCHEME}://")
    await session.parts.vault.set_delay(name, seconds)
    said = f"answers after {seconds:g} s" if seconds else "answers at once"
    return Result({"vault": name, "delay": seconds}, [f"vault {name} {said}"])
