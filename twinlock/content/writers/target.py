"""What all export formats share: the contract, the checks of a target, and files that appear whole or not at all.

What is written is decrypted mail: files are made with mode 0600 and folders with 0700, whatever the umask. Nothing is
synced to the disk: an export that a power failure cuts short is made again.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Protocol, Self

from twinlock.content.sources.errors import TargetRefused, shown, writing
from twinlock.content.sources.message import Kind

_SAFE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,127}")
_ANOTHER_PATH = "give a path where nothing is yet, or an empty folder"


class ItemSink(Protocol):
    """Take the bytes of one item."""

    def write(self, data: bytes, /) -> int:
        """Take the next bytes of the item."""
        ...


class MailWriter(AbstractContextManager["MailWriter"], Protocol):
    """Write items to one target.

    Leaving it because of an exception keeps the items that were complete in a folder or a Maildir, and no mbox at all:
    a part of an mbox would look like the whole of it. Failures are `TargetRefused` and `TargetFailed`.
    """

    def __enter__(self) -> Self:
        """Make what the items are written into."""
        ...

    def item(self, item_id: str, kind: Kind) -> AbstractContextManager[ItemSink]:
        """Take one item; an exception inside leaves nothing of it behind, and the next item may follow."""
        ...


def require_empty_folder(path: Path) -> None:
    """Refuse a target that is anything but a free path or an empty folder."""
    if not _exists(path):
        return
    if not path.is_dir():
        raise TargetRefused(f"{shown(path)} exists and is not a folder", hint=_ANOTHER_PATH)
    with writing(path), os.scandir(path) as entries:
        if next(entries, None) is not None:
            raise TargetRefused(f"{shown(path)} is not empty", hint=_ANOTHER_PATH)


def require_free_path(path: Path) -> None:
    """Refuse a target that exists."""
    if _exists(path):
        raise TargetRefused(f"{shown(path)} exists", hint="give the path of a file that does not exist yet")


def require_safe_id(item_id: str) -> str:
    """Raise `ValueError` for an id that could lead out of the target's folder, or be hidden in it."""
    if not _SAFE_ID.fullmatch(item_id):
        raise ValueError("an item id is letters, digits, '-' and '_'")
    return item_id


def make_private_folder(path: Path) -> list[Path]:
    """Make a folder and those above it that are missing, all with mode 0700; return those made, the deepest first."""
    with writing(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700)
    return missing


def take_back(made: Iterable[Path]) -> None:
    """Remove folders that were made for nothing: an export that was refused leaves no trace."""
    for folder in made:
        with suppress(OSError):  # it holds something
            folder.rmdir()


class PrivateFile:
    """Make a file with mode 0600 and write to it without a buffer, so that nothing is left to fail when it is closed.

    A file that is there already, or that a link points to, is never opened. Errors name the `final` path.
    """

    def __init__(self, path: Path, final: Path) -> None:
        self._path = path
        self._final = final
        with writing(final):
            self._file = FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")

    def write(self, data: bytes, /) -> int:
        """Write all of the bytes."""
        left = memoryview(data)
        with writing(self._final):
            while left:
                left = left[self._file.write(left) :]
        return len(data)

    def tell(self) -> int:
        """Return how many bytes there are."""
        return self._file.tell()

    def cut(self, size: int) -> None:
        """Forget everything after the first `size` bytes."""
        with writing(self._final):
            self._file.seek(size)
            self._file.truncate()

    def complete(self) -> None:
        """Give the file its final name."""
        with writing(self._final):
            self._file.close()
            self._path.rename(self._final)

    def discard(self) -> None:
        """Remove the file."""
        with writing(self._final):
            self._file.close()
            self._path.unlink(missing_ok=True)


@contextmanager
def whole_file_at(path: Path, partial: Path) -> Iterator[ItemSink]:
    """Write a file under the name `partial` and rename it to `path` when it is complete."""
    file = PrivateFile(partial, path)
    try:
        yield file
        file.complete()
    except BaseException:
        file.discard()
        raise


def _exists(path: Path) -> bool:
    with writing(path):
        return os.path.lexists(path)
