"""The mark: how far this installation was, kept outside its database, so that an older database is noticed.

It holds the newest revocation and the newest signed checkpoint that a custodian of this home has seen. A database that
lacks either, or in which that part of the audit log's chain is another one, was restored from a backup: it may have
forgotten revocations, used approvals and purges. Nothing is served from it until what it lacks was replayed.

Of the audit log only what was signed counts: rows alone say what whoever writes the owner's tables wants them to.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from twinlock.custody.audit.believing import LogKeys, believed_checkpoint, believed_cut, head_of
from twinlock.custody.audit.chain import Signed
from twinlock.custody.errors import Distrusted
from twinlock.custody.revocation import revocations
from twinlock.store.unit import Reader

HINT = "replay what it lacks: twinlock restore check"


class Restored(Distrusted):
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
        return self.signed.seal if self.signed else 0

    @property
    def head(self) -> bytes:
        """Return the head of the chain at that seal."""
        return self.signed.head if self.signed else b""

    def moved_on(self, found: "Mark") -> "Mark":
        """Return what a database that lacks nothing of this one moves it to; neither part goes back."""
        if found.epoch < self.epoch:
            return self
        return replace(found, signed=self.signed) if found.seal < self.seal else found


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
    """Hold a database against the mark of this home, and move the mark on with it.

    `keys` is asked at every look, since a fleet's may come while this runs; without them no checkpoint moves the mark.
    """

    marks: Marks
    keys: Callable[[], LogKeys | None]

    async def check(self, reader: Reader) -> None:
        """Move the mark on; raise `Distrusted` where the database is older than it, or forged, or the mark is gone.

        The reader has written nothing itself yet: a mark is of what is there for good.
        """
        keys = self.keys()
        if lacks := await lacking(reader, self.marks.read(), keys):
            raise Restored(lacks)
        found = await newest(reader, keys)
        known = self.marks.read()  # only now: others may have moved it on meanwhile, and it never goes back
        if known is not None and (moved := known.moved_on(found)) != known:
            self.marks.write(moved)


async def newest(reader: Reader, keys: LogKeys | None) -> Mark:
    """Return the mark that a database as it is now deserves; raise `ForgedCheckpoint` where its checkpoint is none."""
    number = await revocations.newest(reader)
    signed = await believed_checkpoint(reader, keys.public) if keys else None
    return Mark(number, signed, await revocations.told(reader, number))


async def lacking(reader: Reader, mark: Mark | None, keys: LogKeys | None) -> str:
    """Say what a database lacks of a mark, or nothing."""
    if mark is None:
        return "this home holds no mark of how far it was"
    if await revocations.newest(reader) < mark.epoch:
        return f"it lacks revocation {mark.epoch}"
    # A restore fills a number of which nothing tells: whoever did that has seen to what it may have been.
    if mark.change and await revocations.told(reader, mark.epoch) not in (mark.change, revocations.FILLED):
        return f"its revocation {mark.epoch} is another one"
    return await lacking_checkpoint(reader, mark, keys)


async def lacking_checkpoint(reader: Reader, mark: Mark, keys: LogKeys | None) -> str:
    """Say whether a database lacks the checkpoint of a mark, or holds another past."""
    if mark.signed is None:
        return ""
    head = await head_of(reader, mark.seal)
    if head is not None:
        return "" if head == mark.head else f"seal {mark.seal} of its audit log is not the one that was signed"
    if keys is None:
        return f"it lacks seal {mark.seal} of the audit log, and no key is here to tell whether that was pruned"
    cut = await believed_cut(reader, keys)
    if cut is not None and cut.seal > mark.seal:
        return ""  # it was further than the mark, and that part was exported and pruned since
    return f"it lacks seal {mark.seal} of the audit log"
