"""`twinlock mailbox import`, `export`, `items` and `delete`: mail in and out, item by item."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import func, select

from cli.command import command
from cli.commands import names, reading
from cli.options import Address
from cli.output import Result, listing
from cli.progress import bytes_bar
from cli.session import Session
from twinlock.content import containers
from twinlock.content.writers import Format
from twinlock.store.tables import content as tables


class ExportFormat(StrEnum):
    """What an export looks like."""

    FILES = "files"
    MBOX = "mbox"
    MAILDIR = "maildir"


_FORMATS: dict[ExportFormat, Format] = {
    ExportFormat.FILES: "files",
    ExportFormat.MBOX: "mbox",
    ExportFormat.MAILDIR: "maildir",
}


def register(noun: typer.Typer) -> None:
    """Add the commands to the noun."""
    command(noun, "import")(bring_in)
    command(noun, "export")(bring_out)
    command(noun, "items")(items)
    command(noun, "delete")(delete)


async def bring_in(
    session: Session,
    address: Address,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An mbox, a Maildir, or a folder of .eml and .ics.")],
) -> Result:
    """Import mail; a second run adds only what is missing."""
    names.address(address)
    total = await asyncio.to_thread(_size, path)
    with bytes_bar("importing", total, session.shows) as bar:
        report = await session.parts.importer.run(address, path, session.asker(), lambda report: bar.at(report.read))
    document = {"imported": report.imported, "skipped": report.skipped, "bytes": report.bytes}
    return Result(document, [f"imported {report.imported} ({report.bytes} bytes), skipped {report.skipped}"])


async def bring_out(
    session: Session,
    address: Address,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A new folder, or a new file for an mbox.")],
    form: Annotated[ExportFormat, typer.Option("--format", help="What to write.")] = ExportFormat.FILES,
    reader: Annotated[
        str, typer.Option("--as", metavar="user|service:PURPOSE", help="On whose behalf; audited.")
    ] = "user",
) -> Result:
    """Export mail, decrypted, byte for byte what was imported."""
    asker = session.asker(names.initiator(reader))
    total = await _stored(session, names.address(address))
    await reading.tell(session, asker, lambda reader: containers.find_mailbox(reader, address))
    with bytes_bar("exporting", total, session.shows) as bar:
        report = await session.parts.exporter.run(
            address, path, _FORMATS[form], asker, lambda report: bar.at(report.bytes)
        )
    document = {"exported": report.exported, "bytes": report.bytes}
    return Result(document, [f"exported {report.exported} ({report.bytes} bytes) to {path}"])


async def items(session: Session, address: Address) -> Result:
    """List the items of a mailbox, without their content."""
    found = [
        {"id": item.id, "kind": item.kind, "bytes": item.size, "key_version": item.generation}
        async for item in session.parts.items.list(address)
    ]
    return listing(found, ("id", "kind", "bytes", "key_version"), "no items")


async def delete(
    session: Session,
    address: Address,
    item: Annotated[list[str], typer.Argument(metavar="ITEM...", help="Ids, as `mailbox items` lists them.")],
) -> Result:
    """Delete items, all of them or none."""
    count = await session.parts.items.delete(address, item, session.cause)
    return Result({"deleted": count}, [f"deleted {count} {'item' if count == 1 else 'items'}"])


async def _stored(session: Session, address: str) -> int:
    """Return how many bytes a mailbox holds."""
    async with session.parts.store.read() as reader:
        mailbox = await containers.find_mailbox(reader, address)
        query = select(func.sum(tables.items.c.size)).where(tables.items.c.container_id == mailbox.id)
        return int(await reader.scalar(query) or 0)


def _size(path: Path) -> int | None:
    """Return how many bytes an import will read, or none where that can't be told."""
    try:
        if path.is_file():
            return path.stat().st_size
        return sum(found.stat().st_size for found in path.rglob("*") if found.is_file())
    except OSError:
        return None
