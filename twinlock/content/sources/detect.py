"""Tell what a path holds, and refuse what is not mail."""

import os
import stat
from pathlib import Path

from twinlock.content.sources.errors import NotMail, reading, shown
from twinlock.content.sources.folder import FolderSource
from twinlock.content.sources.maildir import MaildirSource, is_maildir
from twinlock.content.sources.mbox import ENVELOPE, MboxSource
from twinlock.content.sources.message import MailSource

_WHAT_IS_MAIL = "give an mbox file, a Maildir, or a folder with .eml and .ics files"


def open_source(path: Path) -> MailSource:
    """Find out whether a path is an mbox file, a Maildir or a folder with mail; raise `NotMail` where it is none.

    An empty file is an mbox without messages, and a Maildir may be empty; a folder without any mail is refused, since
    it is more likely the wrong folder.
    """
    mode = _mode(path)
    if stat.S_ISREG(mode):
        return _mbox(path)
    if stat.S_ISDIR(mode):
        return _folder(path)
    raise NotMail(f"{shown(path)} is neither a file nor a folder", hint=_WHAT_IS_MAIL)


def _mode(path: Path) -> int:
    with reading(path):
        try:
            return path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotMail(f"{shown(path)} does not exist", hint=f"check the path; {_WHAT_IS_MAIL}") from error


def _mbox(path: Path) -> MboxSource:
    with reading(path), path.open("rb", buffering=0) as file:
        begin = file.read(len(ENVELOPE))
    if begin not in (b"", ENVELOPE):
        raise NotMail(f"{shown(path)} is not an mbox file: its first line does not start with 'From '", hint=_fix(path))
    return MboxSource(path)


def _fix(path: Path) -> str:
    if path.suffix.lower() in (".eml", ".ics"):
        return "put it in a folder and import the folder: every .eml and .ics file in it is one item"
    return _WHAT_IS_MAIL


def _folder(path: Path) -> MailSource:
    with reading(path):
        os.scandir(path).close()  # an unreadable folder must not look like one that is no Maildir
    if is_maildir(path):
        return MaildirSource(path)
    source = FolderSource(path)
    if next(source.messages(), None) is None:
        hint = f"check the path; {_WHAT_IS_MAIL} (an mbox file is given by its own path, not by its folder's)"
        raise NotMail(f"{shown(path)} holds no .eml or .ics file, and is no Maildir", hint=hint)
    return source
