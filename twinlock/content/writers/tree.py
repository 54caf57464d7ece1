"""Write files below a new folder, and nowhere else, whatever their paths and whoever else writes there.

Every folder on the way is opened from the one above it, and never through a link: one that somebody puts into the
target meanwhile is refused. Paths are bytes, of any depth.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from twinlock.content.paths import checked, names_of, shown_path
from twinlock.content.sources.errors import TargetFailed, writing
from twinlock.content.writers.target import ItemSink, make_private_folder, require_empty_folder, take_back

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_REFUSED = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP, errno.ENOTDIR)


class NameTaken(TargetFailed):
    """Say that this disk can't have a file of that name: it takes it for another one, or refuses it."""


class TreeWriter:
    """Write a tree of files; made with mode 0600 and 0700, as what is written is decrypted."""

    def __init__(self, path: Path) -> None:
        require_empty_folder(path)
        self._path = path
        self._made: list[Path] = []
        self._root = -1

    def __enter__(self) -> Self:
        """Make the folder."""
        self._made = make_private_folder(self._path)
        with writing(self._path):
            self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the files that are complete, and after an exception without any no folder either."""
        os.close(self._root)
        if kind is not None:
            take_back(self._made)

    def folder(self, path: bytes) -> None:
        """Make a folder, and those above."""
        with self._told(path):
            os.close(self._opened(names_of(checked(path))))

    @contextmanager
    def file(self, path: bytes) -> Iterator[ItemSink]:
        """Write one file, hidden under a name of its own until it is complete."""
        *above, name = names_of(checked(path))
        partial = f".{secrets.token_hex(16)}.partial".encode()
        with self._told(path):
            folder = self._opened(above)
        try:
            with self._told(path):
                sink = _Sink(os.open(partial, _NEW, 0o600, dir_fd=folder), self._path)
            try:
                yield sink
                sink.close()
                with self._told(path):
                    _give_name(folder, partial, name)
            except BaseException:
                sink.close()
                with suppress(OSError):
                    os.unlink(partial, dir_fd=folder)
                raise
        finally:
            os.close(folder)

    def _opened(self, names: list[bytes]) -> int:
        """Return a descriptor of the folder, which is made where it is missing."""
        at = os.dup(self._root)
        for name in names:
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=at)
                below = os.open(name, _FOLDER, dir_fd=at)
            finally:
                os.close(at)
            at = below
        return at

    @contextmanager
    def _told(self, path: bytes) -> Iterator[None]:
        try:
            with writing(self._path):
                yield
        except TargetFailed as failed:
            cause = failed.__cause__
            if isinstance(cause, FileExistsError) or (isinstance(cause, OSError) and cause.errno in _NAME_REFUSED):
                raise NameTaken(f"{shown_path(path)} can't be written: {(cause.strerror or '').lower()}") from cause
            raise


class _Sink(FileIO):
    """Write all of the bytes, and tell what fails in our words."""

    def __init__(self, descriptor: int, target: Path) -> None:
        super().__init__(descriptor, "wb")
        self._target = target

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # bytes are all that comes
        left = memoryview(data)
        with writing(self._target):
            while left:
                left = left[super().write(left) or 0 :]
        return len(data)


def _give_name(folder: int, partial: bytes, name: bytes) -> None:
    """Give a complete file its name, unless that is taken: then the disk, empty before, takes two names for one."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    raise FileExistsError(errno.EEXIST, "another file has this name")
