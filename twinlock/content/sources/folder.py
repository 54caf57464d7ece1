"""Mail and calendar entries in a folder: every *.eml and *.ics file in it, at any depth, is one item.

Only regular files count. Symbolic links inside are never followed, neither to files nor to folders: what an import
reads is what lies in the folder, once each, and nothing from outside it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from twinlock.content.sources.errors import reading
from twinlock.content.sources.message import Kind, SourceMessage, whole_file

_KINDS: dict[str, Kind] = {".eml": "eml", ".ics": "ics"}


class FolderSource:
    """List the items of a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def messages(self) -> Iterator[SourceMessage]:
        """List a folder's own items by name, then those of its folders in the order of their names."""
        todo = [self._path]  # no recursion: the depth of a folder is not ours to bound
        while todo:
            folder = todo.pop()
            names, folders = _listing(folder)
            for name in names:
                yield whole_file(_KINDS[name[-4:].lower()], folder / name)
            todo.extend(folder / name for name in reversed(folders))

    def total_bytes(self) -> int:
        """Return the sum of the files' sizes."""
        return sum(message.size for message in self.messages())


def _listing(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the mail files and of the folders."""
    names, folders = [], []
    with reading(folder), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.name[-4:].lower() in _KINDS and entry.is_file(follow_symlinks=False):
                names.append(entry.name)
    return sorted(names), sorted(folders)
