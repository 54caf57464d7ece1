"""The mark: how far this installation was, kept outside its database, so that an older database is noticed.

It holds the newest revocation and the newest signed checkpoint that a custodian of this home has seen. A database that
lacks either, or in which that part of the audit log's chain is another one, was restored from a backup: it may have
forgotten revocations, used approvals and purges. Nothing is served from it until what it lacks was replayed.
"""

import json
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select

from twinlock.custody.audit.chain import Signed
from twinlock.custody.audit.cut import read_cut
from twinlock.custody.audit.reading import newest_checkpoint
from twinlock.custody.errors import KeyRefused
from twinlock.custody.revocation import revocations
from twinlock.store.tables.custody import audit_seals
from twinlock.store.unit import Reader

HINT = "replay what it lacks: twinlock restore check"


class Restored(KeyRefused):
    """Refuse to serve from a database that is older than what this home has seen."""

    def __init__(self, lacks: str) -> None:
        super().__init__(f"the database was restored from a backup: {lacks}", policy="", hint=HINT)


@dataclass(frozen=True, slots=True)
class Mark:
    """Hold the newest revocation and the newest checkpoint that were seen.

    `change` says what that revocation was, where it is known: a restored database takes its number for another one.
    """

    epoch: int = 0
    signed: Signed | None = None
    change: str = ""

    @property
    def seal(self) -> int:
        """Return which seal the checkpoint is about, 0 where nothing was signed."""
        return int(self._said["seal"]) if self.signed else 0

    @property
    def head(self) -> bytes:
        """Return the head of the chain at that seal."""
        return bytes.fromhex(self._said["head"]) if self.signed else b""

    @property
    def _said(self) -> Any:
        return json.loads(self.signed.statement) if self.signed else {}


class Marks(Protocol):
    """Keep the mark of one home."""

    def read(self) -> Mark | None:
        """Return the mark, or none where it is gone."""
        ...

    def write(self, mark: Mark) -> None:
        """Return when the mark is durable."""
        ...


class MemoryMarks:
    """Keep a mark for as long as the process lives."""

    def __init__(self, mark: Mark | None = None) -> None:
        self._mark = mark

    def read(self) -> Mark | None:
        """Return the mark, or none where it is gone."""
        return self._mark

    def write(self, mark: Mark) -> None:
        """Keep the mark."""
        self._mark = mark


@dataclass(frozen=True, slots=True)
class RestoreGuard:
    """Hold a database against the mark of this home, and move the mark on with it."""

    marks: Marks

    async def check(self, reader: Reader) -> None:
        """Raise `Restored` where the database is older than the mark, or the mark is gone; else move the mark on.

        The reader has written nothing itself yet: a mark is of what is there for good.
        """
        if lacks := await lacking(reader, self.marks.read()):
            raise Restored(lacks)
        found = await newest(reader)
        known = self.marks.read()  # only now: others may have moved it on meanwhile, and it never goes back
        if known is not None and known != found and known.seal <= found.seal and known.epoch <= found.epoch:
            self.marks.write(found)


async def newest(reader: Reader) -> Mark:
    """Return the mark that a database as it is now deserves."""
    number = await revocations.newest(reader)
    return Mark(number, await newest_checkpoint(reader), await revocations.told(reader, number))


async def lacking(reader: Reader, mark: Mark | None) -> str:
    """Say what a database lacks of a mark, or nothing."""
    if mark is None:
        return "this home holds no mark of how far it was"
    if await revocations.newest(reader) < mark.epoch:
        return f"it lacks revocation {mark.epoch}"
    # A restore fills a number of which nothing tells: whoever did that has seen to what it may have been.
    if mark.change and await revocations.told(reader, mark.epoch) not in (mark.change, revocations.FILLED):
        return f"its revocation {mark.epoch} is another one"
    return await lacking_checkpoint(reader, mark)


async def lacking_checkpoint(reader: Reader, mark: Mark) -> str:
    """Say whether a database lacks the checkpoint of a mark, or holds another past."""
    if mark.signed is None:
        return ""
    head = await reader.scalar(select(audit_seals.c.head).where(audit_seals.c.number == mark.seal))
    if head is None:
        cut = await read_cut(reader)
        if cut is not None and cut.seal > mark.seal:
            return ""  # it was further than the mark, and that part was exported and pruned since
        return f"it lacks seal {mark.seal} of the audit log"
    return "" if head == mark.head else f"seal {mark.seal} of its audit log is not the one that was signed"
