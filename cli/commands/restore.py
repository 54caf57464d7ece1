"""`twinlock restore`: after the database was restored from a backup, replay what it has forgotten, and serve again."""

from contextlib import nullcontext
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import home
from cli.command import command
from cli.commands.audit import Kept, read_kept
from cli.commands.audit_export import open_export
from cli.failures import UsageFault
from cli.output import Failure, Result, Table, fields
from cli.session import Session
from cli.wiring.auditing import audit_of
from cli.wiring.marking import marks_of
from twinlock.custody.revocation.mark import Mark
from twinlock.errors import TwinlockError
from twinlock.restoring.checking import Checked, Restoring

noun = typer.Typer(help="After a restore of the database.")

Entries = Annotated[
    Path | None,
    typer.Option("--entries", metavar="FILE", help="A newer export of the audit log: twinlock audit export."),
]
Loss = Annotated[
    str | None,
    typer.Option(
        "--accept-loss",
        metavar="REASON",
        help="Serve without what is forgotten, but for what the entries tell; it is audited.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="restore")


@command(noun, "check")
async def check(session: Session, checkpoint: Kept = None, entries: Entries = None, accept_loss: Loss = None) -> Result:
    """Replay revocations, approvals and purges that a restored database has forgotten, then allow serving."""
    if accept_loss is not None and not accept_loss.strip():
        raise UsageFault("a loss is accepted with a reason", hint="say why nothing newer is there")
    restoring = _restoring(session, checkpoint)
    with open_export(entries) if entries else nullcontext() as lines:
        if accept_loss is None:
            checked = await restoring.check(session.cause, lines)
        else:
            checked = await restoring.accept(session.cause, accept_loss, lines)
    if accept_loss is not None and entries is None:
        return _result(checked, f"serving from the database as it is, without what it lacks: {checked.lacked or '-'}")
    said = f"replayed {checked.replayed} of {checked.entries} lost entries" if checked.lacked else "nothing was lost"
    return _result(checked, f"{said}; this installation serves")


def _restoring(session: Session, checkpoint: Path | None) -> Restoring:
    parts = session.parts
    place, audit = parts.settings.home, audit_of(parts)
    if audit is None:
        raise TwinlockError(f"{place / home.AUDIT_KEY} is missing", hint="run it in the home with the vaults")
    kept = None
    if checkpoint is not None:
        ((_, signed),) = read_kept(place, checkpoint).items()
        kept = Mark(0, signed)
    public = home.read_checkpoint_public(place)
    keep = timedelta(seconds=parts.settings.content.objects_keep)
    return Restoring(parts.store, audit, home.read_audit_key(place), public, marks_of(place), kept, keep)


def _result(checked: Checked, said: str) -> Result:
    document: dict[str, Any] = {
        "lacked": checked.lacked,
        "entries": checked.entries,
        "replayed": checked.replayed,
        "unreplayed": [asdict(each) for each in checked.unreplayed],
    }
    shown = [[each.kind, each.writer, each.sequence, each.why] for each in checked.unreplayed]
    view: list[str | Table] = [said, fields({**document, "unreplayed": len(shown)})]
    if not shown:
        return Result(document, view)
    view.append(Table(("kind", "writer", "sequence", "why"), shown, title="\nnot replayed"))
    failure = Failure(f"{len(shown)} entries could not be replayed", "see to each of them; docs/backup.md says how")
    return Result(document, view, failure)
