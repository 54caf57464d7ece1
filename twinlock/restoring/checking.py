"""Hold a database against the newest checkpoint, replay what it lacks, and let it be served from again."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from twinlock.custody.audit import AuditEntry, AuditLog, Scalar
from twinlock.custody.inspection import Inspection
from twinlock.custody.mark import Mark, Marks, lacking, newest
from twinlock.errors import TwinlockError
from twinlock.restoring.effects import Unreplayed, replay
from twinlock.restoring.exported import read_export
from twinlock.restoring.importing import put_back
from twinlock.store.tables.custody import audit_seals
from twinlock.store.unit import Cause, Reader, Store

_NO_MARK = "name a checkpoint that was kept elsewhere: twinlock restore check --checkpoint FILE"
_NO_ENTRIES = "name a newer export of the audit log: twinlock restore check --entries FILE"


@dataclass(frozen=True, slots=True)
class Checked:
    """Hold what a check came to."""

    lacked: str = ""
    entries: int = 0
    replayed: int = 0
    unreplayed: tuple[Unreplayed, ...] = ()


@dataclass(slots=True)
class Restoring:
    """Check one installation; `kept` is the newest checkpoint that somebody kept elsewhere."""

    store: Store
    audit: AuditLog
    audit_key: bytes
    public: bytes
    marks: Marks
    kept: Mark | None = None
    lacked: str = field(default="", init=False)

    async def check(self, cause: Cause, lines: Iterable[str] | None) -> Checked:
        """Replay from an exported log what the database lacks; raise where it lacks something that is not there."""
        wanted = self._wanted()
        async with self.store.read() as reader:
            self.lacked = await lacking(reader, wanted)
        if not self.lacked:
            await self._agree()
            return Checked()
        if wanted is None:
            raise TwinlockError(self.lacked, hint=_NO_MARK)
        if lines is None:
            raise TwinlockError(f"the database was restored from a backup: {self.lacked}", hint=_NO_ENTRIES)
        checked = await self._replay(cause, lines, wanted)
        await self._agree()
        return checked

    async def accept(self, cause: Cause, reason: str) -> Checked:
        """Serve from the database as it is, by the operator's word; what it has forgotten stays forgotten."""
        async with self.store.begin(cause) as unit:
            lacked = await lacking(unit, self._wanted())
            detail = {"lacks": lacked, "reason": reason, "sender": unit.sender}
            await self.audit.append(unit, AuditEntry("restore-accepted", None, None, detail))
        await self._agree()
        return Checked(lacked)

    def _wanted(self) -> Mark | None:
        """Return the newest of what is known: the home's own mark, or what was kept elsewhere."""
        mark, kept = self.marks.read(), self.kept
        if mark is None or kept is None:
            return mark or kept
        return Mark(max(mark.epoch, kept.epoch), (kept if kept.seal > mark.seal else mark).signed)

    async def _replay(self, cause: Cause, lines: Iterable[str], wanted: Mark) -> Checked:
        async with self.store.read() as reader:
            heads = await _heads(reader)
        exported = read_export(lines, heads, Inspection(self.audit_key, self.public), wanted)
        async with self.store.begin(cause) as unit:
            lost = await put_back(unit, exported, wanted, self.audit_key, self.store)
            came = [await replay(unit, entry) for entry in lost]
            failed = tuple(each for each in came if isinstance(each, Unreplayed))
            done = sum(each is True for each in came)
            detail: dict[str, Scalar] = {"lacked": self.lacked, "entries": len(lost), "replayed": done}
            detail |= {"unreplayed": len(failed), "sender": unit.sender}
            await self.audit.append(unit, AuditEntry("restore-checked", None, None, detail))
            if lacks := await lacking(unit, wanted):
                raise TwinlockError(f"even with that export {lacks}", hint="find a newer one, or accept the loss")
        return Checked(self.lacked, len(lost), done, failed)

    async def _agree(self) -> None:
        async with self.store.read() as reader:
            self.marks.write(await newest(reader))


async def _heads(reader: Reader) -> dict[int, bytes]:
    rows: Any = await reader.rows(select(audit_seals.c.number, audit_seals.c.head))
    return {row.number: row.head for row in rows}
