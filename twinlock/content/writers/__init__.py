"""Mail as it goes out again: a folder of files, an mbox file or a Maildir, written as a stream.

Plain synchronous file code: call it in a thread. Failures belong to the family in `twinlock.content.sources.errors`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from twinlock.content.writers.folder import FolderWriter
from twinlock.content.writers.maildir import MaildirWriter
from twinlock.content.writers.mbox import MboxWriter
from twinlock.content.writers.target import ItemSink, MailWriter

__all__ = ["Format", "ItemSink", "MailWriter", "open_writer"]

Format = Literal["files", "mbox", "maildir"]

_WRITERS: dict[Format, Callable[[Path], MailWriter]] = {
    "files": FolderWriter,
    "mbox": MboxWriter,
    "maildir": MaildirWriter,
}


def open_writer(path: Path, format: Format) -> MailWriter:  # noqa: A002 - the word of the command line's option
    """Return a writer for `with`; raise `TargetRefused` at once where something is at the path already.

    A folder that exists and is empty is taken, except by an mbox, which is a file.
    """
    return _WRITERS[format](path)
