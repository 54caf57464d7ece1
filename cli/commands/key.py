"""`twinlock key`: root keys in the embedded vault, and the live check of any root key."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from cli.command import command
from cli.commands import names
from cli.options import KeyUri
from cli.output import Failure, Result, fields
from cli.session import Session
from twinlock.custody.port import Probe, service
from twinlock.keys.ports import Outcome
from twinlock.vaults.administration import KeyState, KeyStatus
from twinlock.vaults.software.local import LocalVault

noun = typer.Typer(help="Root keys.")

Change = Callable[[LocalVault, str], Awaitable[KeyState]]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for name, help_text, change in _CHANGES:
        _register_change(name, help_text, change)
    app.add_typer(noun, name="key")


@command(noun, "create")
async def create(
    session: Session,
    uri: KeyUri,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DATE", help="When it stops wrapping, such as 2030-01-31.")
    ] = None,
) -> Result:
    """Make a root key in an embedded vault."""
    made = await session.parts.vault.create_root_key(uri, names.expiry(expires) if expires else None)
    document = _document(made.uri, made.version, KeyStatus.ENABLED)
    if made.expires is not None:
        document["expires"] = made.expires.isoformat()
    return Result(document, [f"made {made.uri}, version {made.version}"])


_CHANGES: tuple[tuple[str, str, Change], ...] = (
    ("disable", "Refuse all use of a key until it is enabled again.", LocalVault.disable),
    ("enable", "Allow the use of a key again.", LocalVault.enable),
    ("delete", "Delete a key softly: restore brings it back.", LocalVault.delete),
    ("restore", "Bring a deleted key back.", LocalVault.restore),
    ("rotate", "Add a version to a key; the older ones still unwrap.", LocalVault.rotate),
)


def _register_change(name: str, help_text: str, change: Change) -> None:
    async def action(session: Session, uri: KeyUri) -> Result:
        state = await change(session.parts.vault, uri)
        document = _document(state.uri, state.version, state.state)
        return Result(document, [f"{state.uri}: version {state.version}, {state.state}"])

    action.__doc__ = help_text
    command(noun, name)(action)


def _document(uri: str, version: str, state: KeyStatus) -> dict[str, Any]:
    return {"uri": uri, "version": version, "state": state.value}


@command(noun, "probe")
async def probe(session: Session, uri: KeyUri) -> Result:
    """Check a root key live: get, wrap, unwrap."""
    found = await session.parts.custodian.probe(uri, session.asker(service("probe")))
    document = {"uri": found.uri, "outcome": found.outcome.value, "detail": found.detail, "seconds": found.seconds}
    return Result(document, [fields({**document, "seconds": f"{found.seconds:.3f}"})], _failure(found))


def _failure(found: Probe) -> Failure | None:
    if found.outcome is Outcome.OK:
        return None
    return Failure(f"{found.uri}: {found.outcome}: {found.detail}")
