"""Compare encrypting and decrypting a large file with tink-py's streaming, and with a copy through one object store.

All write to the same disk and are durable at their end. Ours has to be at least twice as fast as tink-py, and to reach
60 % of the copy; a process that encrypts and decrypts the file stays below 150 MB. The file's size in MiB may be given
as an argument.
"""

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from bench._site import ASKER, SITE, SiteBench, site_bench
from twinlock.store.unit import Cause

MIB = 1024 * 1024
SIZE, ROUNDS = 1024, 3
OVER_TINK, OF_COPY, MOST_MEMORY = 2.0, 0.6, 150
CHUNK = MIB

Contender = tuple[Callable[[Path], Awaitable[None]], Callable[[Path], Awaitable[None]]]


def chunks(path: Path) -> AsyncIterator[bytes]:
    """Read a file in large pieces, off the event loop."""

    async def read() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk

    return read()


async def write(path: Path, content: AsyncIterator[bytes]) -> None:
    """Write a file durably, off the event loop."""
    with path.open("wb") as file:
        async for chunk in content:
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(os.fsync, file.fileno())


def ours(bench: SiteBench) -> Contender:
    """Put the file into a site, and get it."""

    async def put(source: Path) -> None:
        await bench.files.put(SITE, b"large", chunks(source), ASKER)

    async def get(target: Path) -> None:
        await write(target, bench.files.get(SITE, b"large", ASKER))

    return put, get


def copy(bench: SiteBench) -> Contender:
    """Copy the file into the object store, and out of it."""
    names: list[str] = []

    async def put(source: Path) -> None:
        names[:] = await bench.objects.announce("copy", 1, Cause("bench"))
        await bench.objects.write(names[0], chunks(source))

    async def get(target: Path) -> None:
        await write(target, bench.objects.read(names[0]))
        await bench.objects.delete(names[0])

    return put, get


async def timed(work: Awaitable[None]) -> float:
    """Return how long it took."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def measure(folder: Path, source: Path) -> bool:
    """Have all of them do it in turn, and tell; return whether the bounds hold."""
    from bench._tink import with_tink  # not where memory is measured

    target = folder / "target"
    async with site_bench(folder) as bench:
        contenders = {"ours": ours(bench), "copy": copy(bench), "tink": with_tink(folder)}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, (put, get) in contenders.items():
                taken[name].append((await timed(put(source)), await timed(get(target))))
        same = await asyncio.to_thread(lambda: source.stat().st_size == target.stat().st_size)
    holds = same
    for at, what in enumerate(("encrypt", "decrypt")):
        seconds = {name: statistics.median(each[at] for each in rounds) for name, rounds in taken.items()}
        for name, each in seconds.items():
            print(f"{what} {name:5} {each:6.2f} s", flush=True)
        tink_ratio, copy_ratio = seconds["tink"] / seconds["ours"], seconds["copy"] / seconds["ours"]
        print(f"{what}: {tink_ratio:.2f} times as fast as tink-py (at least {OVER_TINK})")
        print(f"{what}: {copy_ratio:.0%} of a copy (at least {OF_COPY:.0%})")
        holds = holds and tink_ratio >= OVER_TINK and copy_ratio >= OF_COPY
    return holds


async def once(folder: Path, source: Path) -> None:
    """Encrypt and decrypt once, for the memory that it takes."""
    async with site_bench(folder) as bench:
        put, get = ours(bench)
        await put(source)
        await get(folder / "out")


def memory(source: Path) -> bool:
    """Have a process of its own do it, and tell what it took at its peak; return whether the bound holds."""
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-") as folder:
        subprocess.run([sys.executable, "-m", "bench.streaming", "once", folder, source], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB (at most {MOST_MEMORY})")
    return peak <= MOST_MEMORY


def main() -> int:
    """Measure, and fail where a bound is missed."""
    if sys.argv[1:2] == ["once"]:
        asyncio.run(once(Path(sys.argv[2]), Path(sys.argv[3])))
        return 0
    size = int(sys.argv[1]) if len(sys.argv) > 1 else SIZE
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-") as name:
        folder = Path(name)
        source = folder / "source"
        with source.open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(MIB))
        small = memory(source)
        return int(not (asyncio.run(measure(folder, source)) and small))


if __name__ == "__main__":
    sys.exit(main())
