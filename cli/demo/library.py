"""The demo's document library: text, a picture, a large binary, nothing at all, and names of all kinds."""

import hashlib
import os
import secrets
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LIBRARY = Path("library")
LARGE = Path("drawings/hull.bin")
NOTES = Path("notes.txt")
LARGE_BYTES = 50 * 1024 * 1024

_NAMES = (
    "Angebot Größe Ω.md",
    "two  spaces & 'quotes'.txt",
    "ship 🛳.txt",
    ".hidden",
    "-begins with a dash",
    "a/very/deep/path/to/one/small/file/indeed/it is here.txt",
)
_NOT_UTF8 = b"caf\xe9.txt"  # as an old file system left it


@dataclass(frozen=True, slots=True)
class Library:
    """Say where the files lie, and the random word that stands in one of them."""

    folder: Path
    canary: str


def make(folder: Path, large_bytes: int = LARGE_BYTES) -> Library:
    """Write all files into a folder."""
    library = Library(folder / LIBRARY, secrets.token_hex(16))
    for number, name in enumerate(_NAMES, 1):
        _write(library.folder / name, f"{secrets.token_hex(32)}\n".encode() * number)
    _write(library.folder / os.fsdecode(_NOT_UTF8), b"strong\n")
    _write(library.folder / NOTES, f"The word that nobody may find: {library.canary}\n".encode())
    _write(library.folder / "empty.dat", b"")
    _write(library.folder / "pictures/sea.png", _picture(320, 200))
    _write(library.folder / LARGE, secrets.token_bytes(large_bytes))
    (library.folder / "drafts").mkdir()
    return library


def contents(folder: Path) -> Mapping[str, str]:
    """Return the digest of every file below a folder by its path; of a folder in which nothing lies, the path alone."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif not any(path.iterdir()):
            found[f"{name}/"] = ""
    return found


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _picture(width: int, height: int) -> bytes:
    """Return a PNG (RFC 2083) of a sea below a sky."""
    rows = [b"\0" + b"".join(_pixel(x, y) for x in range(width)) for y in range(height)]
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _pixel(x: int, y: int) -> bytes:
    return bytes((30 + y // 4, 90 + y // 3, 160 + x % 90))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
