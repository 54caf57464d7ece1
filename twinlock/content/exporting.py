"""Export a mailbox to files: decrypted item by item, in flat memory, byte for byte what was imported."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from twinlock.content import containers
from twinlock.content.containers import Container
from twinlock.content.items import Items
from twinlock.content.sealing import Stored
from twinlock.content.writers import Format, MailWriter, open_writer
from twinlock.custody.port import Asker
from twinlock.errors import NotFound
from twinlock.store.unit import Store


@dataclass(slots=True)
class ExportReport:
    """Count what was exported so far."""

    exported: int = 0
    bytes: int = 0


class Exporter:
    """Write a mailbox's items to a folder, an mbox file or a Maildir."""

    def __init__(self, store: Store, items: Items) -> None:
        self._store = store
        self._items = items

    async def run(
        self, address: str, path: Path, form: Format, asker: Asker, progress: Callable[[ExportReport], None]
    ) -> ExportReport:
        """Export a mailbox; `progress` hears of every item.

        Raise `TargetRefused` before anything is decrypted, and `KeyRefused` or `KeyNotYet` as the custodian does. An
        item deleted while the export runs is left out.
        """
        async with self._store.read() as reader:
            mailbox = await containers.find_mailbox(reader, address)
        report = ExportReport()
        async with AsyncExitStack() as stack:
            writer = await asyncio.to_thread(stack.enter_context, open_writer(path, form))
            async for item in self._items.listing(mailbox):
                if await self._export(mailbox, item, asker, writer):
                    report.exported += 1
                    report.bytes += item.size
                    progress(report)
        return report

    async def _export(self, mailbox: Container, item: Stored, asker: Asker, writer: MailWriter) -> bool:
        chunks = self._items.content(mailbox, item, asker)
        try:
            first = await anext(chunks, b"")
        except NotFound:
            return False
        with writer.item(item.id, item.kind) as sink:
            await asyncio.to_thread(sink.write, first)
            async for chunk in chunks:
                await asyncio.to_thread(sink.write, chunk)
        return True
