"""Measure one large file into a site and out again, beside a plain copy through the same object store and Tink's
streaming, and small reads with a warm cache; the file's size in MB may be given as an argument.

Each round does all of them one after the other, so that a busy disk is everybody's; the best of each counts. Memory is
the peak of this process after ours have run, before Tink is loaded.
"""

import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import obstore
from obstore.store import LocalStore
from sqlalchemy import insert

from twinlock.clock import SystemClock
from twinlock.content.files import Files
from twinlock.content.filing import Filer
from twinlock.content.keyring import SiteKeyring
from twinlock.content.objects import Objects
from twinlock.content.sealing import in_thread
from twinlock.content.settings import ContentSettings
from twinlock.content.sites import NewSite, Sites
from twinlock.content.tree import walk
from twinlock.custody.memory import MemoryCustodian
from twinlock.custody.port import USER, Asker
from twinlock.store.engine import open_engine
from twinlock.store.migrate import upgrade
from twinlock.store.tables.custody import policies, policy_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store, new_id

ROUNDS = 2
READS = 500
CHUNK = 4 << 20
ASKER = Asker(USER, Cause(new_id()))

Work = Callable[[], Awaitable[None]]


def write_source(folder: Path, megabytes: int) -> Path:
    """Write a file of random bytes."""
    folder.mkdir()
    with (folder / "file").open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    return folder / "file"


async def seed(store: Store) -> None:
    """Make what `init` would."""
    now = store.clock.now()
    policy = {"workload": "site", "mode": "standard", "state": "active", "health": "healthy", "created_at": now}
    async with store.begin(ASKER.cause) as unit:
        for name in ("provider", "acme"):
            await unit.execute(insert(tenants).values(id=name, name=name, trial=False, created_at=now))
        await unit.execute(
            insert(policies).values(
                id="s", tenant_id="provider", name="service-site", newest_generation=1, version=1, **policy
            )
        )
        await unit.execute(
            insert(policy_keys).values(policy_id="s", generation=1, commitment=bytes(32), created_at=now)
        )


class Contest:
    """Carry one file through one object store in several ways."""

    def __init__(self, folder: Path, source: Path, files: Files, backend: LocalStore) -> None:
        self._folder = folder
        self._source = source
        self._files = files
        self._backend = backend

    async def put(self) -> None:
        """Put the file into a site."""
        (entry,) = walk(self._source.parent)
        await self._files.put("acme/hq", b"file", in_thread(entry.chunks()), ASKER)

    async def get(self) -> None:
        """Write the file from the site to the disk."""
        await self._save(self._files.get("acme/hq", b"file", ASKER))

    async def copy_in(self) -> None:
        """Put the file into the object store as it is, and sync it, as content objects are."""
        await obstore.put_async(self._backend, "copy", self._source)
        with (self._folder / "objects" / "copy").open("rb") as copied:
            os.fsync(copied.fileno())

    async def copy_out(self) -> None:
        """Write the object to the disk as it is."""

        async def chunks() -> AsyncIterator[bytes]:
            found = await obstore.get_async(self._backend, "copy")
            async for chunk in found.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

        await self._save(chunks())

    async def small_reads(self) -> None:
        """Read 4 KB from anywhere in the file."""
        rng = Random(0)  # noqa: S311  # places, not secrets
        size = self._source.stat().st_size
        for _ in range(READS):
            start = rng.randrange(size - 4096)
            async for _chunk in self._files.range("acme/hq", b"file", start, start + 4096, ASKER):
                pass

    async def _save(self, chunks: AsyncIterator[bytes]) -> None:
        with (self._folder / "out").open("wb") as file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)


class Tink:
    """Encrypt and decrypt the file with Tink's streaming, from disk to disk."""

    def __init__(self, folder: Path, source: Path) -> None:
        import tink
        from tink import streaming_aead

        streaming_aead.register()
        template = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
        self._primitive = tink.new_keyset_handle(template).primitive(streaming_aead.StreamingAead)
        self._source, self._sealed, self._out = source, folder / "tink", folder / "out"

    async def encrypt(self) -> None:
        """Encrypt; the file is synced, as an object is."""
        target = self._sealed.open("wb")
        with self._source.open("rb") as source, self._primitive.new_encrypting_stream(target, b"") as stream:
            while chunk := source.read(CHUNK):
                stream.write(chunk)
        with self._sealed.open("rb") as sealed:
            os.fsync(sealed.fileno())

    async def decrypt(self) -> None:
        """Decrypt."""
        source = self._sealed.open("rb")
        with self._out.open("wb") as target, self._primitive.new_decrypting_stream(source, b"") as stream:
            while chunk := stream.read(CHUNK):
                target.write(chunk)


async def timed(work: Work) -> float:
    """Return how long it took."""
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def measure(folder: Path, megabytes: int) -> None:
    """Measure all, and print the figures."""
    source = write_source(folder / "source", megabytes)
    engine = open_engine(f"sqlite+aiosqlite:///{folder / 'twinlock.db'}")
    await upgrade(engine)
    store = Store(engine, SystemClock(), "urn:twinlock:bench")
    await seed(store)
    backend = LocalStore(folder / "objects", mkdir=True)
    objects, custodian = Objects(backend, store, ContentSettings()), MemoryCustodian(store)
    keyring = SiteKeyring(custodian, store.clock)
    await Sites(store, custodian).add(NewSite("hq", "acme", "EUR"), ASKER)
    contest = Contest(folder, source, Files(store, objects, keyring, Filer(store, objects, keyring)), backend)
    ours: dict[str, Work] = {"encrypt": contest.put, "decrypt": contest.get, "4 KB reads": contest.small_reads}
    best = {name: await timed(work) for name, work in ours.items()}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tink = Tink(folder, source)
    copies: dict[str, Work] = {"copy in": contest.copy_in, "copy out": contest.copy_out}
    works = ours | copies | {"tink encrypt": tink.encrypt, "tink decrypt": tink.decrypt}
    for _ in range(ROUNDS):
        for name, work in works.items():
            best[name] = min(best.get(name, float("inf")), await timed(work))
    await store.close()
    report(best, megabytes, memory)


def report(best: dict[str, float], megabytes: int, memory: float) -> None:
    """Print rates and ratios."""
    reads = best.pop("4 KB reads")
    for name, seconds in best.items():
        print(f"{name:14} {megabytes / seconds:7.0f} MB/s")
    for verb, copy in (("encrypt", "copy in"), ("decrypt", "copy out")):
        print(
            f"{verb}: {best[copy] / best[verb]:.2f} of a plain copy, {best[f'tink {verb}'] / best[verb]:.2f} x tink-py"
        )
    print(f"4 KB read, warm: {reads / READS * 1e6:.0f} us")
    print(f"peak memory: {memory:.0f} MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(measure(Path(scratch), int(sys.argv[1]) if len(sys.argv) > 1 else 1024))
