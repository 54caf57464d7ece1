"""`twinlock audit prune`: forget the audit log's past, as far as an export has it and a checkpoint was signed."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from cli import home
from cli.commands.audit_export import open_export
from cli.failures import UsageFault
from cli.output import Result
from cli.session import Session
from cli.wiring.auditing import audit_of
from cli.wiring.marking import guard_of
from twinlock.custody.audit.pruning import Pruning
from twinlock.errors import TwinlockError

Export = Annotated[Path, typer.Argument(metavar="FILE", help="What `twinlock audit export` wrote; keep it.")]
Keep = Annotated[int, typer.Option("--keep", metavar="DAYS", max=36500, help="Keep what is younger.")]


async def prune(session: Session, file: Export, keep: Keep = 400) -> Result:
    """Delete entries older than --keep that FILE has, up to a signed checkpoint; `verify` begins there from then on."""
    parts = session.parts
    place, audit = parts.settings.home, audit_of(parts)
    if audit is None:
        raise TwinlockError(f"{place / home.AUDIT_KEY} is missing", hint="run it in the home with the vaults")
    _check_window(keep, timedelta(seconds=parts.settings.content.objects_keep))
    pruning = Pruning(parts.store, audit, home.read_audit_key(place), home.read_checkpoint_public(place))
    async with parts.store.read() as reader:
        await guard_of(place).check(reader)  # a restored database has its log put back first
    with open_export(file) as lines:
        pruned = await pruning.prune(session.cause, lines, parts.clock.now() - timedelta(days=keep))
    begins = pruned.begins
    if begins is None:
        return Result({"removed": 0, "pruned": 0, "begins": None}, [f"nothing is older than {keep} days"])
    document = {"removed": pruned.removed, "pruned": begins.entries, "begins": begins.seal}
    return Result(document, [f"removed {pruned.removed} entries; the log begins behind seal {begins.seal}"])


def _check_window(keep: int, backups: timedelta) -> None:
    least = -(-backups // timedelta(days=1))
    if keep < least:
        raise UsageFault(
            f"--keep {keep} is too short: backups of {least} days may be restored",
            hint="what they lack is replayed from the log: keep at least that much",
        )
