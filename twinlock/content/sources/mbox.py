"""Mail in one mbox file, found by searching blocks: neither a line nor a message is ever held in memory.

An envelope line starts with `From ` at the start of the file or right after an empty line (RFC 4155). An item is the
bytes between its envelope line and the empty line before the next one or before the end of the file, exactly as they
are stored: `>From ` stays `>From `.

That empty line is `\n`, or, where the item's own envelope line ends in CRLF, also `\r\n`. A message with CRLF lines in
a file with LF envelopes therefore keeps its last `\r\n`, as in every other reader.
"""

import os
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

from twinlock.content.sources.errors import SourceChanged, reading
from twinlock.content.sources.message import SourceMessage, Stamp

BLOCK = 1024 * 1024
ENVELOPE = b"From "

_MARK = b"\n" + ENVELOPE
_AFTER_EMPTY_LINE = (b"\n", b"\n\r")  # how the bytes before the mark's line feed end
_OVERLAP = len(_MARK) - 1 + max(map(len, _AFTER_EMPTY_LINE))
_ENVELOPE_READ = 256


class MboxSource:
    """List the items of an mbox file; `block` is how many bytes are searched at once."""

    def __init__(self, path: Path, block: int = BLOCK) -> None:
        self._path = path
        self._block = block

    def messages(self) -> Iterator[SourceMessage]:
        """List the items in the file's order."""
        with reading(self._path), self._path.open("rb", buffering=0) as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            begins = self._envelopes(file.fileno(), stamp.size)
            for begin, end in pairwise(chain(begins, [stamp.size])):
                start, stop = _item(file.fileno(), begin, end)
                yield SourceMessage("eml", self._path, start, stop - start, stamp)

    def total_bytes(self) -> int:
        """Return the file's size."""
        with reading(self._path):
            return self._path.stat().st_size

    def _envelopes(self, file: int, size: int) -> Iterator[int]:
        if size:
            yield 0
        position, tail = 0, b""
        while position < size:
            block = os.pread(file, min(self._block, size - position), position)
            if not block:
                raise SourceChanged(self._path)
            window = tail + block
            yield from _envelopes_in(window, position - len(tail), max(0, len(tail) - len(_MARK) + 1))
            position += len(block)
            tail = window[-_OVERLAP:]


def _envelopes_in(window: bytes, offset: int, begin: int) -> Iterator[int]:
    """Find the marks that start at `begin` or later: an earlier one was whole in the window before."""
    at = window.find(_MARK, begin)
    while at >= 0:
        if window.endswith(_AFTER_EMPTY_LINE, max(0, at - 2), at):
            yield offset + at + 1
        at = window.find(_MARK, at + 1)


def _item(file: int, begin: int, end: int) -> tuple[int, int]:
    start = _line_end(file, begin, end)
    first = max(start - 1, end - 3)  # from the envelope's own line feed on: an item may be nothing but the empty line
    tail = os.pread(file, end - first, first)
    if start < end and tail.endswith(b"\n\n"):
        return start, end - 1
    if start < end and tail.endswith(b"\n\r\n") and os.pread(file, 2, start - 2) == b"\r\n":
        return start, end - 2
    return start, end


def _line_end(file: int, begin: int, end: int) -> int:
    position, size = begin, _ENVELOPE_READ
    while position < end:
        block = os.pread(file, min(size, end - position), position)
        found = block.find(b"\n")
        if found >= 0 or not block:
            return position + found + 1 if block else end
        position, size = position + len(block), BLOCK
    return end
