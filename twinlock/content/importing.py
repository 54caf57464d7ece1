"""Import mail from files: streamed, in bounded batches, and a second run adds exactly what is missing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twinlock.content import containers
from twinlock.content.adding import Adder, Draft
from twinlock.content.occurrences import Occurrences
from twinlock.content.plain import BytesPlain, Plain
from twinlock.content.settings import ContentSettings
from twinlock.content.sources import SourceMessage, open_source
from twinlock.custody.port import Asker
from twinlock.store.unit import Store


@dataclass(slots=True)
class ImportReport:
    """Count what an import did so far; `bytes` is what was added, `read` is how far the source was read."""

    imported: int = 0
    skipped: int = 0
    bytes: int = 0
    read: int = 0


Progress = Callable[[ImportReport], None]


class Importer:
    """Bring the mail of a file or folder into a mailbox."""

    def __init__(self, store: Store, adder: Adder, settings: ContentSettings) -> None:
        self._store = store
        self._adder = adder
        self._settings = settings

    async def run(self, address: str, path: Path, asker: Asker, progress: Progress) -> ImportReport:
        """Import a path; every batch is durable when `progress` hears of it.

        Raise `NotMail` before anything is changed. An interrupted import is finished by repeating it.
        """
        async with self._store.read() as reader:
            mailbox = await containers.find_mailbox(reader, address)
        source = await asyncio.to_thread(open_source, path)
        report = ImportReport()
        with Occurrences() as occurrences:
            async for batch in self._batches(source.messages(), occurrences):
                added = await self._adder.add(mailbox.id, batch, asker)
                _count(report, batch, set(added))
                progress(report)
        return report

    async def _batches(self, messages: Iterator[SourceMessage], occurrences: Occurrences) -> AsyncIterator[list[Draft]]:
        ended = False
        while not ended:
            batch, ended = await asyncio.to_thread(self._collect, messages, occurrences)
            if batch:
                yield batch

    def _collect(self, messages: Iterator[SourceMessage], occurrences: Occurrences) -> tuple[list[Draft], bool]:
        """Take messages until the batch is full; it holds the one that fills it, so only the last can be empty."""
        batch: list[Draft] = []
        size = 0
        for message in messages:
            plain = self._held(message)
            batch.append(Draft(plain, occurrences.number(plain)))
            size += message.size
            if size >= self._settings.batch_bytes or len(batch) >= self._settings.batch_items:
                return batch, False
        return batch, True

    def _held(self, message: SourceMessage) -> Plain:
        """Hold a small message, so that its file is read once; a large one is read again each time."""
        if message.size <= self._settings.inline_bytes:
            return BytesPlain(message.kind, message.read())
        return message


def _count(report: ImportReport, batch: list[Draft], added: set[str]) -> None:
    for draft in batch:
        report.read += draft.plain.size
        if draft.id in added:
            report.imported += 1
            report.bytes += draft.plain.size
        else:
            report.skipped += 1
