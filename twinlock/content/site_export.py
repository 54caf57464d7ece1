"""Export a site to a folder: decrypted file by file, in flat memory, byte for byte what was imported.

A file that does not decrypt, or that this disk can't hold, is named and stops nobody else.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from twinlock.content import containers
from twinlock.content.blobs import StoredFile
from twinlock.content.containers import Container
from twinlock.content.files import Files
from twinlock.content.objects import ObjectGone
from twinlock.content.paths import BadPath, checked, is_folder
from twinlock.content.site_import import LeftOut
from twinlock.content.writers.tree import NameTaken, TreeWriter
from twinlock.custody.port import Asker
from twinlock.errors import NotFound
from twinlock.keys.errors import DecryptionError
from twinlock.store.unit import Store


@dataclass(slots=True)
class SiteExport:
    """Count what was exported so far, and name what could not be."""

    files: int = 0
    bytes: int = 0
    failed: LeftOut = field(default_factory=LeftOut)


class SiteExporter:
    """Write a site's files and empty folders to a folder."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files

    async def run(self, site: str, folder: Path, asker: Asker, progress: Callable[[SiteExport], None]) -> SiteExport:
        """Export a site; `progress` hears of every file.

        Raise `TargetRefused` before anything is decrypted, and `KeyRefused` or `KeyNotYet` as the custodian does. A
        file deleted while the export runs is left out.
        """
        async with self._store.read() as reader:
            found = await containers.find_site(reader, site)
        report = SiteExport()
        with TreeWriter(folder) as writer:
            async with aclosing(self._files.listing(found)) as listed:
                async for file in listed:
                    await self._export(found, file, asker, writer, report)
                    progress(report)
        return report

    async def _export(
        self, site: Container, file: StoredFile, asker: Asker, writer: TreeWriter, report: SiteExport
    ) -> None:
        try:
            # The database is not trusted with where files go on this disk.
            if is_folder(checked(file.path)):
                await asyncio.to_thread(writer.folder, file.path)
                return
            await self._write(site, file, asker, writer)
            report.files += 1
            report.bytes += file.size
        except NotFound:
            return
        except (BadPath, NameTaken) as refused:
            report.failed.add(file.path, refused.detail)
        except (DecryptionError, ObjectGone):
            report.failed.add(file.path, "it does not decrypt, or its object is gone")

    async def _write(self, site: Container, file: StoredFile, asker: Asker, writer: TreeWriter) -> None:
        async with aclosing(self._files.content(site, file, asker)) as chunks:
            first = await anext(chunks, b"")
            with writer.file(file.path) as sink:
                await asyncio.to_thread(sink.write, first)
                async for chunk in chunks:
                    await asyncio.to_thread(sink.write, chunk)
