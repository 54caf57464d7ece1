"""One item of a source: where its bytes lie, and how to read them again."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Literal, Protocol, Self

from twinlock.content.sources.errors import SourceChanged, reading, shown

CHUNK = 64 * 1024

Kind = Literal["eml", "ics"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Tell one state of a file from another."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Take the stamp from what the operating system says about a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """Point at one item: `size` bytes from `start` on in the file at `path`, whose state was `stamp`."""

    kind: Kind
    path: Path
    start: int
    size: int
    stamp: Stamp = field(repr=False)

    @property
    def label(self) -> str:
        """Name the item in an error message; a whole file by its path, a part of an mbox also by its first byte."""
        return f"{shown(self.path)} at byte {self.start}" if self.start else shown(self.path)

    def read(self) -> bytes:
        """Return the whole item; for large ones take `chunks`."""
        return b"".join(self.chunks())

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """Read the item in pieces of at most `size` bytes.

        Raises `SourceChanged` where the file is not, or no longer, what it was when it was listed: treat the item as
        not read. A change within the file system's tick of time that keeps the size goes unseen.
        """
        with reading(self.path), self.path.open("rb", buffering=0) as file:
            self._require_same(file)
            file.seek(self.start)
            left = self.size
            while left:
                chunk = file.read(min(size, left))
                self._require_same(file)
                if not chunk:  # the stamp lags on some network file systems: never loop on an end of file
                    raise SourceChanged(self.path)
                left -= len(chunk)
                yield chunk

    def _require_same(self, file: FileIO) -> None:
        if Stamp.of(os.fstat(file.fileno())) != self.stamp:
            raise SourceChanged(self.path)


def whole_file(kind: Kind, path: Path) -> SourceMessage:
    """Make one item of a whole file, of the link itself where it has become one."""
    with reading(path):
        stamp = Stamp.of(path.lstat())
    return SourceMessage(kind, path, 0, stamp.size, stamp)


class MailSource(Protocol):
    """Give the items of one place on disk, always in the same order."""

    def messages(self) -> Iterator[SourceMessage]:
        """List the items one by one, without holding any of their bytes."""
        ...

    def total_bytes(self) -> int:
        """Return how many bytes there are to go through, for a progress bar; an mbox counts its envelope lines too."""
        ...
