"""`twinlock site import`, `export`, `cat` and `delete`: files in and out."""

import asyncio
import os
import re
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from cli.command import command
from cli.commands import names, reading
from cli.failures import UsageFault
from cli.options import Site
from cli.output import Failure, Result
from cli.progress import bytes_bar
from cli.session import Session
from twinlock.content import containers
from twinlock.content.site_import import LeftOut, SiteReport
from twinlock.content.tree import walk

_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)

FilePath = Annotated[Path, typer.Argument(metavar="PATH", help="The file, relative to the folder it came from.")]


def register(noun: typer.Typer) -> None:
    """Add the commands to the noun."""
    command(noun, "import")(bring_in)
    command(noun, "export")(bring_out)
    command(noun, "cat", documents=False)(cat)
    command(noun, "delete")(delete)


async def bring_in(
    session: Session,
    site: Site,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Everything in it, at any depth.")],
) -> Result:
    """Import a folder; a second run puts only what is new or changed, and deletes nothing."""
    names.site(site)
    importer, asker = session.parts.site_importer, session.asker()
    total = await asyncio.to_thread(_size, folder) if session.shows else None
    with bytes_bar("importing", total, session.shows) as bar:
        report = await importer.run(site, folder, asker, lambda report: bar.at(report.read))
    status = await session.parts.sites.show(site)
    document = {
        "site": status.name,
        "files": report.files,
        "bytes": report.bytes,
        "data_encryption_policy_id": status.policy,
        "unchanged": report.unchanged,
        "skipped": _named(report.skipped),
        "failed": _named(report.failed),
    }
    view = f"imported {report.files} {_files(report.files)} ({report.bytes} bytes), {report.unchanged} unchanged"
    return Result(document, [view], _failure(report.failed, "imported"), _warnings(report))


async def bring_out(
    session: Session,
    site: Site,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder, or an empty one.")],
    reader: Annotated[
        str, typer.Option("--as", metavar="user|service:PURPOSE", help="On whose behalf; audited.")
    ] = "user",
) -> Result:
    """Export all files, decrypted, byte for byte what was imported."""
    asker = session.asker(names.initiator(reader))
    status = await session.parts.sites.show(names.site(site))
    await reading.tell(session, asker, lambda reader: containers.find_site(reader, site))
    with bytes_bar("exporting", status.bytes, session.shows) as bar:
        report = await session.parts.site_exporter.run(site, folder, asker, lambda report: bar.at(report.bytes))
    document = {
        "site": status.name,
        "files": report.files,
        "bytes": report.bytes,
        "data_encryption_policy_id": status.policy,
        "failed": _named(report.failed),
    }
    view = f"exported {report.files} {_files(report.files)} ({report.bytes} bytes) to {folder}"
    return Result(document, [view], _failure(report.failed, "exported"))


async def cat(
    session: Session,
    site: Site,
    path: FilePath,
    within: Annotated[
        str | None, typer.Option("--range", metavar="A-B", help="Only bytes A to B, counted from 0, both included.")
    ] = None,
) -> Result:
    """Write a file, or a range of it, to standard output: its bytes and nothing else."""
    name, asker = os.fsencode(path), session.asker()
    if within is None:
        chunks = session.parts.files.get(names.site(site), name, asker)
    else:
        first, last = _range(within)
        chunks = session.parts.files.range(names.site(site), name, first, last + 1, asker)
    async with aclosing(chunks):
        async for chunk in chunks:
            await asyncio.to_thread(sys.stdout.buffer.write, chunk)
    return Result({})


async def delete(
    session: Session,
    site: Site,
    path: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, or empty folders.")],
) -> Result:
    """Delete files, all of them or none."""
    count = await session.parts.files.delete(names.site(site), [os.fsencode(each) for each in path], session.cause)
    return Result({"deleted": count}, [f"deleted {count} {_files(count)}"])


def _range(text: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]):
        raise UsageFault(f"{text[:100]!a} is not a range", hint="for example --range 0-99 for the first hundred bytes")
    return int(found[1]), int(found[2])


def _size(folder: Path) -> int:
    return sum(entry.size for entry in walk(folder))


def _files(count: int) -> str:
    return "file" if count == 1 else "files"


def _named(left_out: LeftOut) -> list[dict[str, str]]:
    return [{"path": path, "reason": reason} for path, reason in left_out.named]


def _warnings(report: SiteReport) -> list[str]:
    unnamed = report.skipped.count - len(report.skipped.named)
    lines = [f"{path} is {reason}: left out" for path, reason in report.skipped.named]
    return [*lines, f"and {unnamed} more left out"] if unnamed else lines


def _failure(failed: LeftOut, done: str) -> Failure | None:
    if not failed.count:
        return None
    path, reason = failed.named[0]
    more = f", and {failed.count - 1} more" if failed.count > 1 else ""
    return Failure(f"not {done}: {path}: {reason}{more}", "mend it and run the command again: --json names all")
