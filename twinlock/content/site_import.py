"""Import a folder into a site: streamed, in bounded batches, and a second run puts exactly what is new or changed.

What is in the site and no longer in the folder stays: an import never deletes.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twinlock.content import containers
from twinlock.content.blobs import StoredFile
from twinlock.content.containers import Container
from twinlock.content.filing import FileDraft, Filer, by_paths
from twinlock.content.keyring import SiteKeyring
from twinlock.content.paths import BadPath, checked, shown_path
from twinlock.content.sealing import in_thread
from twinlock.content.settings import MIB
from twinlock.content.sources import SourceChanged, Unreadable
from twinlock.content.tree import Entry, walk
from twinlock.custody.port import Asker
from twinlock.keys.blobs import SiteCipher
from twinlock.keys.errors import DecryptionError
from twinlock.store.unit import Store

_BATCH_FILES = 256
_BATCH_BYTES = 64 * MIB
_NAMED = 100


@dataclass(slots=True)
class LeftOut:
    """Count what was left out, and name the first of it with the reason."""

    count: int = 0
    named: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: bytes, reason: str) -> None:
        """Leave one more out."""
        self.count += 1
        if len(self.named) < _NAMED:
            self.named.append((shown_path(path), reason))


@dataclass(slots=True)
class SiteReport:
    """Count what an import did so far; `bytes` is what was put, `read` is how far the folder was read.

    `skipped` is what an import never takes, such as links; `failed` is what it should have taken.
    """

    files: int = 0
    bytes: int = 0
    unchanged: int = 0
    read: int = 0
    skipped: LeftOut = field(default_factory=LeftOut)
    failed: LeftOut = field(default_factory=LeftOut)


class SiteImporter:
    """Bring the files of a folder into a site."""

    def __init__(self, store: Store, filer: Filer, keyring: SiteKeyring) -> None:
        self._store = store
        self._filer = filer
        self._keyring = keyring

    async def run(self, site: str, folder: Path, asker: Asker, progress: Callable[[SiteReport], None]) -> SiteReport:
        """Import a folder; every batch is durable when `progress` hears of it.

        Raise `NotFolder` before anything is changed. An interrupted import is finished by repeating it.
        """
        async with self._store.read() as reader:
            found = await containers.find_site(reader, site)
        report, entries = SiteReport(), walk(folder)
        while batch := await asyncio.to_thread(_collect, entries):
            await self._import(found, _sorted_out(batch, report), asker, report)
            report.read += sum(entry.size for entry in batch)
            progress(report)
        return report

    async def _import(self, site: Container, batch: Sequence[Entry], asker: Asker, report: SiteReport) -> None:
        async with self._store.read() as reader:
            there = await by_paths(reader, site.id, [entry.path for entry in batch])
            now = await containers.load(reader, site.id) or site
        changed = []
        for entry in batch:
            try:
                if await self._is_unchanged(now, entry, there, asker):
                    report.unchanged += entry.stamp is not None
                else:
                    changed.append(entry)
            except (SourceChanged, Unreadable) as fault:
                report.failed.add(entry.path, fault.detail)
        if changed:
            await self._put(now, changed, asker, report)

    async def _put(self, site: Container, entries: Sequence[Entry], asker: Asker, report: SiteReport) -> None:
        drafts = [FileDraft(entry.path, in_thread(entry.chunks()) if entry.stamp else None) for entry in entries]
        for draft in await self._filer.put(site.id, drafts, asker):
            report.files += draft.blob is not None
            report.bytes += draft.blob.size if draft.blob else 0
        for draft in drafts:
            if draft.failure is not None:
                report.failed.add(draft.path, draft.failure.detail)

    async def _is_unchanged(
        self, site: Container, entry: Entry, there: Mapping[bytes, StoredFile], asker: Asker
    ) -> bool:
        """Tell whether the site has these very bytes at this path, by the MAC under the file's own blob key."""
        old = there.get(entry.path)
        if old is None or entry.stamp is None:
            return old is not None
        if old.size != entry.size or old.generation not in site.live:
            return False
        cipher = await self._keyring.open(site.ref(old.generation), asker)
        return await asyncio.to_thread(_has_mac, cipher, old, site, entry)


def _has_mac(cipher: SiteCipher, old: StoredFile, site: Container, entry: Entry) -> bool:
    try:
        blob = old.blob(site.tenant_id, site.id)
        key = cipher.open(blob.wrapped_key, blob.context)
    except DecryptionError:
        return False  # damaged: what the folder has takes its place
    mac = key.mac()
    for chunk in entry.chunks():
        mac.update(chunk)
    key.wipe()
    return mac.matches(blob.content_mac)


def _collect(entries: Iterator[Entry]) -> list[Entry]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.size
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_FILES:
            break
    return batch


def _sorted_out(batch: Sequence[Entry], report: SiteReport) -> list[Entry]:
    taken = []
    for entry in batch:
        if entry.left_out:
            (report.failed if entry.is_fault else report.skipped).add(entry.path, entry.left_out)
            continue
        try:
            checked(entry.path)
        except BadPath as bad:
            report.failed.add(entry.path[:100], bad.hint)
            continue
        taken.append(entry)
    return taken
