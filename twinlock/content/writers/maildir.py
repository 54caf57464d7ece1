"""Export to a Maildir: every item is written in `tmp` and moved to `cur`, byte for byte.

A Maildir has no kinds: a calendar entry becomes a message with the same bytes.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from twinlock.content.sources.message import Kind
from twinlock.content.writers.target import (
    ItemSink,
    make_private_folder,
    require_empty_folder,
    require_safe_id,
    take_back,
    whole_file_at,
)


class MaildirWriter:
    """Write a new Maildir; its files sort in the order of the export."""

    def __init__(self, path: Path) -> None:
        require_empty_folder(path)
        self._path = path
        self._count = 0
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        """Make the folder and its three parts."""
        for part in ("tmp", "new", "cur"):
            self._made = make_private_folder(self._path / part) + self._made
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the items that are complete, and after an exception without any no folder either."""
        if kind is not None and not any((self._path / "cur").iterdir()):
            take_back(self._made)

    def item(self, item_id: str, kind: Kind) -> AbstractContextManager[ItemSink]:
        """Write one message without flags; the item's id makes its name unique wherever the file is moved later."""
        self._count += 1
        name = f"{self._count:010}.{require_safe_id(item_id)}.twinlock"
        return whole_file_at(self._path / "cur" / f"{name}:2,", self._path / "tmp" / name)
