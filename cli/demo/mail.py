"""The demo's mail: the samples, many variants of them, a mail of several megabytes, and a word that nobody may find.

What is imported is read here by other code than the import's, so that the proof does not lean on what it checks.
"""

import base64
import mailbox
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

SAMPLES = Path(__file__).parent / "samples"
COPIES = 1500
ATTACHMENT_BYTES = 5 * 1024 * 1024

INBOX, ARCHIVE, TEAM, LARGE, CALENDAR = map(Path, ("inbox.mbox", "archive.mbox", "team", "large", "calendar"))

_MESSAGE_ID = re.compile(rb"^Message-ID:[^\r\n]*", re.IGNORECASE | re.MULTILINE)
_ENVELOPE = b"From demo@example.org Mon Mar 10 09:00:00 2025\n"
_LINE_BYTES = 57  # as base64: 76 characters, which is what mail has


@dataclass(frozen=True, slots=True)
class Mail:
    """Say where the mail lies, which goes into one mailbox, and the random word that stands in one message of it."""

    folder: Path
    canary: str

    def items(self, *sources: Path) -> Iterator[bytes]:
        """Return the bytes of every item of some sources."""
        for source in sources:
            path = self.folder / source
            yield from (_folder_items(path) if path.is_dir() else _mbox_items(path))


def make(folder: Path, copies: int = COPIES) -> Mail:
    """Write all mail into a folder."""
    mail = Mail(folder, secrets.token_hex(16))
    shutil.copyfile(SAMPLES / "inbox.mbox", folder / INBOX)
    shutil.copytree(SAMPLES / "maildir", folder / TEAM)
    shutil.copytree(SAMPLES / "calendar", folder / CALENDAR)
    (folder / LARGE).mkdir()
    (folder / LARGE / "plans.eml").write_bytes(_large(ATTACHMENT_BYTES))
    _write_archive(folder / ARCHIVE, list(mail.items(INBOX)), copies, mail.canary)
    return mail


def _write_archive(path: Path, samples: list[bytes], copies: int, canary: str) -> None:
    templates = [sample for sample in samples if _MESSAGE_ID.search(sample)]
    with path.open("wb") as archive:
        for number in range(copies):
            variant = _MESSAGE_ID.sub(
                b"Message-ID: <%06d@demo.example.org>" % number, templates[number % len(templates)], 1
            )
            archive.write(_ENVELOPE + variant + b"\n")
        archive.write(_ENVELOPE + _message("A word", f"The word that nobody may find: {canary}\n".encode()))


def _large(size: int) -> bytes:
    attachment = secrets.token_bytes(size)
    lines = (base64.b64encode(attachment[at : at + _LINE_BYTES]) for at in range(0, size, _LINE_BYTES))
    return _message("The plans", b"\n".join(lines) + b"\n", b"application/octet-stream", b"base64")


def _message(subject: str, body: bytes, kind: bytes = b"text/plain", encoding: bytes = b"7bit") -> bytes:
    head = f"From: Ada <ada@example.org>\nTo: Ben <ben@example.org>\nSubject: {subject}\nMIME-Version: 1.0\n".encode()
    return head + b"Content-Type: %b\nContent-Transfer-Encoding: %b\n\n%b" % (kind, encoding, body)


def _mbox_items(path: Path) -> Iterator[bytes]:
    with closing(mailbox.mbox(path, create=False)) as box:
        yield from (box.get_bytes(key) for key in box.iterkeys())


def _folder_items(path: Path) -> Iterator[bytes]:
    """Return what lies in a Maildir's `cur` and `new`, or every .eml and .ics file of another folder."""
    is_maildir = (path / "cur").is_dir()
    for found in sorted(path.rglob("*")):
        wanted = found.parent.name in ("cur", "new") if is_maildir else found.suffix.lower() in (".eml", ".ics")
        if wanted and found.is_file():
            yield found.read_bytes()
