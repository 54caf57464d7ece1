"""How reading and writing mail files can fail.

MailError            always with a hint that names the fix
|-- NotMail          a path that is not mail: nothing was read
|   `-- Unreadable   the path, or a file below it, can't be read
|-- SourceChanged    a file is no longer what it was when it was listed
|-- TargetRefused    a path to which nothing is exported: nothing was written
`-- TargetFailed     writing failed on the way, such as on a full disk
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinlock.errors import TwinlockError

_AGAIN = "import it again when nothing writes to it: what is in already is skipped"


class MailError(TwinlockError, ValueError):
    """Say what is wrong with a path given for mail; `hint` names the fix."""


class NotMail(MailError):
    """Say that a path is no mbox file, no Maildir and no folder with mail."""


class Unreadable(NotMail):
    """Say that a path, or a file below it, exists and can't be read."""


class SourceChanged(MailError):
    """Say that a file is no longer what it was when it was listed, so its range may hold anything now."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{shown(path)} changed while it was read", hint=_AGAIN)


class TargetRefused(MailError):
    """Say that nothing is exported to this path."""


class TargetFailed(MailError):
    """Say that a file could not be written."""


def shown(path: Path | str) -> str:
    """Write a path for people: a file name may hold bytes that are no text, or that steer a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(path))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a file that was listed into this family."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceChanged(path) from error
    except OSError as error:
        raise Unreadable(_sentence(path, "read", error), hint=_reading_hint(error)) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a file that we write into this family."""
    try:
        yield
    except OSError as error:
        raise TargetFailed(_sentence(path, "written", error), hint=_writing_hint(error)) from error


def _sentence(path: Path, done: str, error: OSError) -> str:
    place = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    return f"{shown(place)} can't be {done}: {(error.strerror or str(error)).lower()}"


def _reading_hint(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "give this user the right to read it (chmod u+r, for a folder u+rx)"
    return "check the disk or the network folder; " + _AGAIN


def _writing_hint(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "export to a folder in which this user may write"
    if isinstance(error, FileExistsError):
        return "if no other export runs it is left from one that was cut short: remove it"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room, or export to another disk"
    return "check the disk or the network folder, or export to another path"
