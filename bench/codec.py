"""Compare streaming encryption and decryption of a file with tink-py's, without a disk: from the page cache to nowhere.

Both use segments of 64 KiB and read in pieces of the size that suits them; ours are read while the piece before is
encrypted, as an import and an export do it. Ours has to be at least twice as fast. What a store adds to it
`streaming.py` measures. The file's size in MiB may be given as an argument.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from bench import _tink
from twinlock.keys.secret import SecretKey
from twinlock.keys.streaming import SEGMENT_BYTES, StreamDecrypter, StreamEncrypter

MIB = 1024 * 1024
SIZE, ROUNDS = 1024, 9
OVER_TINK = 2.0
CONTEXT = b"context"
_PIECE = 4 * SEGMENT_BYTES
_LARGE = 3 * MIB

Stream = Callable[[Path, Path], None]


def pieces(path: Path) -> Iterator[memoryview]:
    """Read a file some segments at a time, into the same memory."""
    memory = memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(memory):
            yield memory[:read]


def ahead(path: Path) -> Iterator[memoryview]:
    """Read a file in large pieces, each into memory of its own; two are read while one is used."""
    free, filled = SimpleQueue[memoryview](), SimpleQueue[memoryview]()
    for _ in range(3):
        free.put(memoryview(bytearray(_LARGE)))

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            size = _LARGE
            while size:
                memory = free.get()
                size = file.readinto(memory)
                filled.put(memory[:size])

    reader = Thread(target=read, daemon=True)
    reader.start()
    while piece := filled.get():
        yield piece
        free.put(memoryview(piece.obj))
    reader.join()


def ours() -> tuple[Stream, Stream]:
    """Encrypt and decrypt with our streams under a fresh key."""
    key = SecretKey.generate()

    def through(stream: StreamEncrypter | StreamDecrypter, source: Path, target: Path) -> None:
        with target.open("wb", buffering=0) as file:
            for piece in ahead(source):
                file.write(stream.update(piece))
            file.write(stream.finish())

    def encrypt(source: Path, target: Path) -> None:
        through(StreamEncrypter(key, CONTEXT), source, target)

    def decrypt(source: Path, target: Path) -> None:
        through(StreamDecrypter(key, CONTEXT), source, target)

    return encrypt, decrypt


def tink() -> tuple[Stream, Stream]:
    """Encrypt and decrypt with tink-py's under a fresh key."""
    stream_of = _tink.primitive()

    def encrypt(source: Path, target: Path) -> None:
        with stream_of.new_encrypting_stream(target.open("wb"), CONTEXT) as stream:
            for piece in pieces(source):
                stream.write(piece)

    def decrypt(source: Path, target: Path) -> None:
        with stream_of.new_decrypting_stream(source.open("rb"), CONTEXT) as stream, target.open("wb") as plain:
            while piece := stream.read(_PIECE):
                plain.write(piece)

    return encrypt, decrypt


def timed(stream: Stream, source: Path, target: Path) -> float:
    """Return how long it took."""
    began = time.perf_counter()
    stream(source, target)
    return time.perf_counter() - began


def measure(folder: Path, source: Path) -> bool:
    """Have both do it in turn, and tell; return whether the bound holds."""
    contenders = {"ours": ours(), "tink": tink()}
    for name, (encrypt, _) in contenders.items():
        encrypt(source, folder / name)
    os.sync()  # or the disk would be written to while we measure
    nowhere = Path(os.devnull)
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contenders}
    for _ in range(ROUNDS):
        for name, (encrypt, decrypt) in contenders.items():
            taken[name][0].append(timed(encrypt, source, nowhere))
            taken[name][1].append(timed(decrypt, folder / name, nowhere))
    holds = True
    for at, what in enumerate(("encrypt", "decrypt")):
        seconds = {name: statistics.median(rounds[at]) for name, rounds in taken.items()}
        for name, each in seconds.items():
            print(f"{what} {name:5} {each:6.2f} s")
        ratio = seconds["tink"] / seconds["ours"]
        print(f"{what}: {ratio:.2f} times as fast as tink-py (at least {OVER_TINK})", flush=True)
        holds = holds and ratio >= OVER_TINK
    return holds


def main() -> int:
    """Measure, and fail where the bound is missed."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else SIZE
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-") as name:
        source = Path(name) / "source"
        with source.open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(MIB))
        return int(not measure(Path(name), source))


if __name__ == "__main__":
    sys.exit(main())
