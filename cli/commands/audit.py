"""`twinlock audit`: read the audit log, find whatever was done to it, and hand it on."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import home
from cli.command import command
from cli.commands import names
from cli.commands.audit_export import write_export
from cli.commands.audit_prune import prune
from cli.failures import UsageFault
from cli.options import OptionalTenant
from cli.output import Failure, Result, fields, listing
from cli.session import Session
from schemas.facts import AuditCheckpointed
from twinlock.custody.audit import reading, sealing
from twinlock.custody.audit.chain import SIGNED, Signed, moment
from twinlock.custody.audit.inspection import Inspection
from twinlock.errors import NotFound, TwinlockError
from twinlock.keys.signing import BadSignature, fingerprint, public_to_pem, verify
from twinlock.store.tables.tenants import tenants

OVERDUE_SECONDS = 60.0
_FRESH_SECONDS = 60.0  # a custodian that said nothing for so long is gone
_INTACT = ("entries", "intact", "first_broken")

noun = typer.Typer(help="The audit log.")

Kept = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="FILE", help="A checkpoint that was kept elsewhere, as JSON: event or data."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(noun, "prune")(prune)
    app.add_typer(noun, name="audit")


@command(noun, "list")
async def show_all(
    session: Session,
    tenant: OptionalTenant = None,
    last: Annotated[int | None, typer.Option("--last", metavar="N", min=1, help="The newest N alone.")] = None,
) -> Result:
    """List entries, a tenant's or all, the newest last."""
    async with session.parts.store.read() as reader:
        known = {row.id: row.name for row in await reader.rows(tenants.select())}
        of_tenant = None if tenant is None else _id_of(known, names.tenant_name(tenant))
        rows = await reading.list_entries(reader, of_tenant, last)
    found = [_document(row, known) for row in rows]
    return listing(found, ("at", "writer", "sequence", "kind", "tenant", "policy"), "no entries")


@command(noun, "verify")
async def verify_all(session: Session, checkpoint: Kept = None) -> Result:
    """Find any edit, deletion, insertion, gap or cut in the whole log, and seals that are overdue."""
    kept = read_kept(session.parts.settings.home, checkpoint) if checkpoint else {}
    document, failure = await _inspected(session, kept)
    return Result(document, [fields(document)], failure)


@command(noun, "export")
async def export(session: Session, file: Annotated[Path, typer.Argument(metavar="FILE")]) -> Result:
    """Write the whole log as JSON lines for a SIEM, one an entry, with its place in the chain."""
    async with session.parts.store.read() as reader:
        count = await write_export(reader, file)
    document, failure = await _inspected(session, {})
    exported = {"file": str(file), "exported": count, **{name: document[name] for name in _INTACT}}
    return Result(exported, [f"exported {count} entries to {file}"], failure)


@command(noun, "checkpoint")
async def checkpoint(session: Session) -> Result:
    """Show what was signed last: kept elsewhere, it finds a log that was cut off."""
    async with session.parts.store.read() as reader:
        signed = await reading.newest_checkpoint(reader)
    if signed is None:
        raise NotFound("nothing is sealed yet", hint="see: twinlock audit verify")
    document = {**json.loads(signed.statement), "signature": signed.signature.hex()}
    return Result(document, [fields(document)])


@command(noun, "key")
async def key(session: Session) -> Result:
    """Show the public key of the checkpoints, for whoever checks them elsewhere."""
    public = home.read_checkpoint_public(session.parts.settings.home)
    pem = public_to_pem(public).decode()
    return Result({"fingerprint": fingerprint(public).hex(), "public_key": pem}, [pem.rstrip()])


async def _inspected(session: Session, kept: dict[int, Signed]) -> tuple[dict[str, Any], Failure | None]:
    parts = session.parts
    place = parts.settings.home
    if not home.has_audit_key(place):
        raise TwinlockError(f"{place / home.AUDIT_KEY} is missing", hint="verify from the home with the vaults")
    inspection = Inspection(home.read_audit_key(place), home.read_checkpoint_public(place))
    async with parts.store.read() as reader:
        await reading.inspect(reader, inspection, kept)
        now = parts.clock.now()
        since = await reading.running_since(reader, now - timedelta(seconds=_FRESH_SECONDS))
    if since is not None:  # where nothing runs, nothing is overdue
        inspection.check_time(now, since, OVERDUE_SECONDS)
    await _tell(session, inspection)
    return _verdict(inspection)


async def _tell(session: Session, inspection: Inspection) -> None:
    async with session.parts.store.begin(session.cause) as unit:
        if inspection.intact:
            await sealing.note_intact(unit)
            return
        await sealing.note_broken(unit, str(inspection.breaks[0]))
        if not session.parts.settings.is_fleet:  # there workers alone tell facts: the sealer does
            await sealing.announce(unit)


def _verdict(inspection: Inspection) -> tuple[dict[str, Any], Failure | None]:
    first = inspection.breaks[0] if inspection.breaks else None
    document = {
        "entries": inspection.entries,
        "pruned": inspection.pruned,
        "intact": inspection.intact,
        "first_broken": first and first._asdict(),
        "breaks": len(inspection.breaks),
        "seals": inspection.seals,
        "unsealed": inspection.unsealed,
    }
    if first is None:
        return document, None
    return document, Failure(f"the audit log is not intact: {first}", "docs/audit.md says what that can mean")


def read_kept(place: Path, path: Path) -> dict[int, Signed]:
    """Return a checkpoint that was kept in a file, by its seal; refuse what this home's key did not sign."""
    try:
        said = json.loads(path.read_bytes())
        event = AuditCheckpointed.model_validate(said.get("data", said))
    except (ValueError, AttributeError):
        raise UsageFault(f"{path} is no checkpoint", hint="keep what this shows: twinlock audit checkpoint") from None
    signed = Signed(statement_of(event), bytes.fromhex(event.signature))
    try:
        verify(home.read_checkpoint_public(place), SIGNED, signed.statement, signed.signature)
    except BadSignature:
        raise UsageFault(f"{path} is not signed by this installation", hint="see: twinlock audit key") from None
    return {event.seal: signed}


def statement_of(event: AuditCheckpointed) -> bytes:
    """Return the bytes that were signed, from the event that tells of them."""
    data = event.model_dump(exclude={"signature"})
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _id_of(known: dict[str, str], name: str) -> str:
    found = [tenant_id for tenant_id, known_name in known.items() if known_name == name]
    if not found:
        raise NotFound(f"there is no tenant {name}", hint="see: twinlock tenant list")
    return found[0]


def _document(row: Any, known: dict[str, str]) -> dict[str, Any]:
    return {
        "writer": row.writer,
        "sequence": row.sequence,
        "at": moment(row.at),
        "kind": row.kind,
        "tenant": known.get(row.tenant_id, row.tenant_id),
        "policy": row.policy_id,
        "detail": row.detail,
    }
