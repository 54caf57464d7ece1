"""Names of files in a site: bytes, as a file system has them, of which nothing is assumed but that they stay inside.

A path is its names joined by slashes. That of an empty folder, which alone has a row of its own, ends in a slash. No
normalisation: two spellings of the same letters are two files, as they are on the disk that they come from.
"""

import os

from twinlock.content.sources.errors import shown
from twinlock.errors import TwinlockError
from twinlock.store.tables.content import MAX_PATH_BYTES

_RESERVED = (b"", b".", b"..")


class BadPath(TwinlockError):
    """Refuse what can't be the path of a file in a site."""


def checked(path: bytes) -> bytes:
    """Return a path that leads to a place inside of its site, or raise `BadPath`."""
    if len(path) > MAX_PATH_BYTES:
        raise BadPath(
            f"{shown_path(path)[:60]}... is too long", hint=f"a path in a site has at most {MAX_PATH_BYTES} bytes"
        )
    names = names_of(path)
    if b"\0" in path or not names or any(name in _RESERVED for name in names):
        raise BadPath(f"{shown_path(path)!r} is not the path of a file in a site", hint="for example reports/2026.pdf")
    return path


def names_of(path: bytes) -> list[bytes]:
    """Return the names of the folders and, last, of the file, if it is no folder's path."""
    return path.removesuffix(b"/").split(b"/") if path else []


def is_folder(path: bytes) -> bool:
    """Tell whether a path is that of an empty folder."""
    return path.endswith(b"/")


def folders_above(path: bytes) -> list[bytes]:
    """Return the paths of all folders above, without the slash at their end."""
    names = names_of(path)
    return [b"/".join(names[:depth]) for depth in range(1, len(names))]


def shown_path(path: bytes) -> str:
    """Write a path for people: it may hold bytes that are no text, or that steer a terminal."""
    return shown(os.fsdecode(path))
