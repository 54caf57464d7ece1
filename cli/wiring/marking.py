"""The mark of a home as a file beside its secrets, and what holds the database against it."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from sqlalchemy import select

from cli.home import MARK
from twinlock.custody.audit.chain import Signed
from twinlock.custody.revocation.mark import Mark, Restored, RestoreGuard
from twinlock.errors import TwinlockError
from twinlock.store.tables.custody import audit_seals
from twinlock.store.unit import Store

_WITH_MARKS = "0009"  # the first revision of a database whose home can have had one


@dataclass(frozen=True, slots=True)
class MarkFile:
    """Keep a mark in a file that is there whole or not at all."""

    path: Path

    def read(self) -> Mark | None:
        """Return the mark, or none where the file is gone; raise where it is damaged."""
        try:
            said = json.loads(self.path.read_bytes())
            signed = said["statement"] and Signed(said["statement"].encode(), bytes.fromhex(said["signature"]))
            return Mark(int(said["epoch"]), signed or None, str(said.get("change", "")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            hint = "remove it, and hold the database against a checkpoint: twinlock restore check --checkpoint FILE"
            raise TwinlockError(f"{self.path} is damaged", hint=hint) from None

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
    return MarkFile(home / MARK)


def guard_of(home: Path) -> RestoreGuard:
    """Return what refuses a database that is older than its home."""
    return RestoreGuard(marks_of(home))


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
    with suppress(Restored):  # whoever reads or writes is told
        async with store.read() as reader:
            await guard_of(home).check(reader)
