"""Mail in a Maildir: every file in `cur` and `new` is one item.

`tmp` holds what is still being delivered and is left alone; it need not exist. Folders inside (Maildir++, such as
`.Sent`) are Maildirs of their own and not part of this one.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from twinlock.content.sources.errors import reading
from twinlock.content.sources.message import SourceMessage, whole_file

_PARTS = ("cur", "new")


def is_maildir(path: Path) -> bool:
    """Tell whether a folder has what makes a Maildir; a part that is a link could lead anywhere and does not count."""
    return all((path / part).is_dir() and not (path / part).is_symlink() for part in _PARTS)


class MaildirSource:
    """List the items of a Maildir."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def messages(self) -> Iterator[SourceMessage]:
        """List the items by file name, `cur` and `new` together: names begin with the time of delivery."""
        listed = [(name, part) for part in _PARTS for name in self._names(part)]
        for name, part in sorted(listed):
            yield whole_file("eml", self._path / part / name)

    def total_bytes(self) -> int:
        """Return the sum of the files' sizes."""
        return sum(message.size for message in self.messages())

    def _names(self, part: str) -> Iterator[str]:
        """List the regular files; the format reserves names that begin with a dot, and links are never followed."""
        folder = self._path / part
        with reading(folder), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                    yield entry.name
