"""The mark of a home as a file beside its secrets, and what holds the database against it."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkstemp

from sqlalchemy import select

from cli.home import MARK, has_audit_key, has_checkpoint_public, read_audit_key, read_checkpoint_public
from twinlock.custody.audit.believing import LogKeys
from twinlock.custody.audit.chain import Signed
from twinlock.custody.errors import Distrusted
from twinlock.custody.revocation.mark import Mark, RestoreGuard
from twinlock.errors import TwinlockError
from twinlock.store.tables.custody import audit_seals
from twinlock.store.unit import Store

_WITH_MARKS = "0009"  # the first revision of a database whose home can have had one
_ANEW = "remove it, and hold the database against a checkpoint: twinlock restore check --checkpoint FILE"


@dataclass(frozen=True, slots=True)
class MarkFile:
    """Keep the mark of a home in a file that is there whole or not at all."""

    home: Path

    @property
    def path(self) -> Path:
        """Return where it lies."""
        return self.home / MARK

    def read(self) -> Mark | None:
        """Return the mark, or none where the file is gone; raise where it is damaged, or holds what nobody signed."""
        mark = self._parsed()
        if mark is None or mark.signed is None or not has_checkpoint_public(self.home):
            return mark
        if not mark.signed.is_by(read_checkpoint_public(self.home)):  # older versions believed any row
            raise TwinlockError(f"{self.path} holds a checkpoint that this home's key has not signed", hint=_ANEW)
        return mark

    def _parsed(self) -> Mark | None:
        try:
            said = json.loads(self.path.read_bytes())
            signed = said["statement"] and Signed(said["statement"].encode(), bytes.fromhex(said["signature"]))
            return Mark(int(said["epoch"]), signed or None, str(said.get("change", "")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TwinlockError(f"{self.path} is damaged", hint=_ANEW) from None

    def write(self, mark: Mark) -> None:
        """Return when the mark is durable."""
        signed = mark.signed
        said = {
            "epoch": mark.epoch,
            "change": mark.change,
            "statement": signed and signed.statement.decode(),
            "signature": signed and signed.signature.hex(),
        }
        # Never another's draft: processes in containers of their own share the folder, and may have the same number.
        descriptor, draft = mkstemp(prefix=f"{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(said, file)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).replace(self.path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def marks_of(home: Path) -> MarkFile:
    """Return where the mark of a home is."""
    return MarkFile(home)


def guard_of(home: Path) -> RestoreGuard:
    """Return what refuses a database that is older than its home."""
    return RestoreGuard(marks_of(home), partial(log_keys_of, home))


def log_keys_of(home: Path) -> LogKeys | None:
    """Return what a home checks the audit log with, or none where it lacks a key for that."""
    if not (has_audit_key(home) and has_checkpoint_public(home)):
        return None
    return LogKeys(read_audit_key(home), read_checkpoint_public(home))


async def make_mark(home: Path, store: Store, revision: str | None) -> None:
    """Give a home its first mark; one whose database has a past with marks has lost it and gets none.

    `revision` is that of the database before it was migrated, if that was just now.
    """
    marks = marks_of(home)
    if marks.read() is not None:
        return
    async with store.read() as reader:
        has_past = await reader.scalar(select(audit_seals.c.number).limit(1)) is not None
    if not has_past or (revision is not None and revision < _WITH_MARKS):
        marks.write(Mark())


async def move_mark(home: Path, store: Store) -> None:
    """Move the mark on to what is there now, where the home has one and the database is no older than it."""
    if marks_of(home).read() is None:
        return
    with suppress(Distrusted):  # whoever reads or writes is told
        async with store.read() as reader:
            await guard_of(home).check(reader)
