"""Export to a folder: one .eml or .ics file an item, byte for byte, and nothing else."""

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


class FolderWriter:
    """Write `<item id>.eml` and `<item id>.ics` files."""

    def __init__(self, path: Path) -> None:
        require_empty_folder(path)
        self._path = path
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        """Make the folder."""
        self._made = make_private_folder(self._path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the items that are complete, and after an exception without any no folder either."""
        if kind is not None:
            take_back(self._made)

    def item(self, item_id: str, kind: Kind) -> AbstractContextManager[ItemSink]:
        """Write one file; until it is complete it is hidden, and its name ends so that no import takes it."""
        name = f"{require_safe_id(item_id)}.{kind}"
        return whole_file_at(self._path / name, self._path / f".{name}.partial")
