r"""Export to one mbox file.

Read again by `twinlock.content.sources`, it gives the same items byte for byte wherever an mbox can carry them. Two
things it can't carry:

- a line that starts with `From ` after an empty line (or first in an item that begins with an empty line) would be
  taken for an envelope: it is written as `>From `;
- a last line without line feed: it gets one. An empty item stays empty.

Nothing else is quoted, so that `>From ` stays as it is too. Envelopes are all the same, with the sender that means
"unknown" and the beginning of time: the original ones are not kept. A calendar entry becomes a message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from twinlock.content.sources.errors import TargetFailed, shown
from twinlock.content.sources.message import Kind
from twinlock.content.writers.target import (
    ItemSink,
    PrivateFile,
    make_private_folder,
    require_free_path,
    require_safe_id,
    take_back,
)

_ENVELOPE = b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970"
_MARKS = (b"\n\nFrom ", b"\n\r\nFrom ")
_HELD = max(map(len, _MARKS)) - 1


class MboxWriter:
    """Write one mbox file, under another name until all of it is there."""

    _file: PrivateFile

    def __init__(self, path: Path) -> None:
        require_free_path(path)
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._in_item = False
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        """Make the file, and its folder where it is missing."""
        self._made = make_private_folder(self._path.parent)
        self._file = PrivateFile(self._partial, self._path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give the file its name, or remove it after an exception."""
        if kind is not None:
            self._file.discard()
            take_back(self._made)
            return
        try:
            self._complete()
        except BaseException:
            self._file.discard()
            raise

    @contextmanager
    def item(self, item_id: str, kind: Kind) -> Iterator[ItemSink]:
        """Append one message; neither its id nor its kind has a place in an mbox."""
        require_safe_id(item_id)
        self._require_between_items()
        self._in_item = True
        begin = self._file.tell()
        try:
            quoting = _Quoting(self._file)
            yield quoting
            quoting.finish()
        except BaseException:
            self._file.cut(begin)
            self._in_item = False
            raise
        self._in_item = False

    def _require_between_items(self) -> None:
        """Refuse to go on inside an item, or after one that a broken disk kept us from taking back."""
        if self._in_item:
            hint = "write one item after the other; after a failure export again"
            raise TargetFailed(f"{shown(self._path)} can't be written: an item in it is not complete", hint=hint)

    def _complete(self) -> None:
        self._require_between_items()
        require_free_path(self._path)  # somebody may have used the time
        self._file.complete()


class _Quoting:
    """Pass one message on, quoted; the last bytes are held back, since a mark may go on in the next chunk."""

    def __init__(self, file: PrivateFile) -> None:
        self._file = file
        self._file.write(_ENVELOPE)
        self._held = b"\n"  # the envelope's own: together with an item's empty first line it makes a mark

    def write(self, data: bytes, /) -> int:
        window = self._held + data
        for mark in _MARKS:
            window = window.replace(mark, mark.replace(b"From ", b">From "))
        self._file.write(window[:-_HELD])
        self._held = window[-_HELD:]
        return len(data)

    def finish(self) -> None:
        self._file.write(self._held + (b"\n" if self._held.endswith(b"\n") else b"\n\n"))
