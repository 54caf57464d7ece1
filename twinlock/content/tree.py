"""A folder of files on disk as an import finds it: every regular file, every empty folder, and what is left out.

Symbolic links are never followed, neither to files nor to folders: what is read is what lies in the folder, once each,
and nothing from outside of it. Plain synchronous file code: call it in a thread.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Self

from twinlock.content.sources import NotMail, SourceChanged, Unreadable
from twinlock.content.sources.errors import reading, shown

_CHUNK = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TICK_NS = 100_000_000  # longer than a file system's clock stands still: a change within goes unseen by the stamp


class NotFolder(NotMail):
    """Say that a path is no folder."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Tell one state of a file from another."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Take the stamp from what the operating system says about a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Entry:
    """Point at what was found: `path` is relative to the folder, and ends in a slash for an empty folder.

    `left_out` says why it is not imported. `is_fault` tells what should have been from what never is.
    """

    path: bytes
    place: bytes
    stamp: Stamp | None = None
    left_out: str = ""
    is_fault: bool = False

    @property
    def size(self) -> int:
        """Return how many bytes the file had when it was listed."""
        return self.stamp.size if self.stamp else 0

    def chunks(self) -> Iterator[bytes]:
        """Read the file.

        Raise `SourceChanged` where it is not, at the begin or at the end, what it was when it was listed. A file that
        was changed just now is read twice: its clock may stand still between that change and another one.
        """
        fresh = self.stamp is not None and time.time_ns() - self.stamp.changed_ns < _TICK_NS
        key = os.urandom(32)
        first, second = blake2b(key=key), blake2b(key=key)
        for chunk in self._read():
            if fresh:
                first.update(chunk)
            yield chunk
        if fresh:
            for chunk in self._read():
                second.update(chunk)
        if first.digest() != second.digest():
            raise SourceChanged(Path(os.fsdecode(self.place)))

    def _read(self) -> Iterator[bytes]:
        place = Path(os.fsdecode(self.place))
        with reading(place):
            # Without waiting: a pipe may have taken the file's place. A link there is refused by the system.
            descriptor = os.open(self.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                self._require_same(descriptor, place)
                # Each time: what grows while it is read would never end.
                while chunk := file.read(_CHUNK):
                    self._require_same(descriptor, place)
                    yield chunk
                self._require_same(descriptor, place)

    def _require_same(self, descriptor: int, place: Path) -> None:
        if Stamp.of(os.fstat(descriptor)) != self.stamp:
            raise SourceChanged(place)


def walk(folder: Path) -> Iterator[Entry]:
    """List a folder at any depth, one folder of it open at a time; raise `NotFolder` where it is none."""
    root = os.fsencode(folder)
    with reading(folder):
        if not os.path.isdir(root):  # noqa: PTH112  # a path of bytes
            raise NotFolder(f"{shown(folder)} is not a folder", hint="give the folder whose files are to be imported")
    todo = [b""]
    while todo:
        yield from _listed(root, todo.pop(), todo)


def _listed(root: bytes, inside: bytes, todo: list[bytes]) -> Iterator[Entry]:
    place = os.path.join(root, inside)  # noqa: PTH118  # a path of bytes, which ends in a slash
    empty = True
    try:
        with reading(Path(os.fsdecode(place))), _opened(root, inside) as entries:
            for entry in entries:
                empty, name = False, os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(inside + name + b"/")
                else:
                    yield _entry(inside + name, place + name, entry)
    except (SourceChanged, Unreadable) as fault:
        if not inside:
            raise
        yield Entry(inside, place, left_out=fault.detail, is_fault=True)
        return
    if empty and inside:
        yield Entry(inside, place)


@contextmanager
def _opened(root: bytes, inside: bytes) -> Iterator[Iterator["os.DirEntry[str]"]]:
    at = _open(root, inside)
    try:
        with os.scandir(at) as entries:
            yield entries
    finally:
        os.close(at)


def _open(root: bytes, inside: bytes) -> int:
    """Open a folder from the ones above it: a link that somebody puts in the place of one meanwhile is refused."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in inside.split(b"/")[:-1]:
        try:
            below = os.open(name, _FOLDER, dir_fd=at)
        except OSError as error:
            error.filename = os.path.join(root, inside)  # noqa: PTH118  # a path of bytes
            raise
        finally:
            os.close(at)
        at = below
    return at


def _entry(path: bytes, place: bytes, entry: "os.DirEntry[str]") -> Entry:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return Entry(path, place, left_out=(error.strerror or "unreadable").lower(), is_fault=True)
    if stat.S_ISREG(status.st_mode):
        return Entry(path, place, Stamp.of(status))
    return Entry(path, place, left_out=_KINDS.get(stat.S_IFMT(status.st_mode), "no file"))


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
