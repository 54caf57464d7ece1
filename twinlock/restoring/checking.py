"""Hold a database against the newest checkpoint, replay what it lacks, and let it be served from again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from twinlock.custody.audit.believing import LogKeys
from twinlock.custody.audit.exported import Exported, read_export
from twinlock.custody.audit.inspection import Inspection
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar
from twinlock.custody.revocation import revocations
from twinlock.custody.revocation.mark import Mark, Marks, lacking, newest
from twinlock.errors import TwinlockError
from twinlock.restoring.changes import FILLED_NUMBERS, Placed, fill, missing, place
from twinlock.restoring.effects import replay
from twinlock.restoring.importing import put_back, write_again
from twinlock.restoring.states import Came, set_states
from twinlock.restoring.unreplayed import Unreplayed
from twinlock.store.unit import Cause, Store, Unit

_NO_MARK = "name a checkpoint that was kept elsewhere: twinlock restore check --checkpoint FILE"
_NO_ENTRIES = "name a newer export of the audit log: twinlock restore check --entries FILE"
_SHORT = "find a newer one, or replay it all the same: --accept-loss REASON beside --entries FILE"


@dataclass(frozen=True, slots=True)
class Checked:
    """Hold what a check came to."""

    lacked: str = ""
    entries: int = 0
    replayed: int = 0
    unreplayed: tuple[Unreplayed, ...] = ()


@dataclass(slots=True)
class Restoring:
    """Check one installation; `kept` is the newest checkpoint that somebody kept elsewhere.

    Content of a purged policy that came back is destroyed after `keep`, until when a newer backup may take its place.
    """

    store: Store
    audit: AuditLog
    audit_key: bytes
    public: bytes
    marks: Marks
    kept: Mark | None = None
    keep: timedelta = timedelta(days=14)
    lacked: str = field(default="", init=False)

    async def check(self, cause: Cause, lines: Iterable[str] | None) -> Checked:
        """Replay from an exported log what the database lacks; raise where it lacks something that is not there."""
        wanted = await self._look()
        if wanted is None:
            raise TwinlockError(self.lacked, hint=_NO_MARK)
        if not self.lacked:
            await self._agree(wanted)
            return Checked()
        if lines is None:
            raise TwinlockError(f"the database was restored from a backup: {self.lacked}", hint=_NO_ENTRIES)
        return await self._replay(cause, await self._read(lines, wanted), wanted)

    async def accept(self, cause: Cause, reason: str, lines: Iterable[str] | None = None) -> Checked:
        """Serve by the operator's word, though something lacks; what an exported log has of it is replayed.

        What the database has forgotten beyond that stays forgotten.
        """
        wanted = await self._look() or Mark()
        exported = Exported()
        if lines is not None and self.lacked:
            exported = await self._read(lines, wanted, whole=False)
        return await self._replay(cause, exported, wanted, reason)

    async def _look(self) -> Mark | None:
        """Find what lacks of the newest that is known: the home's own mark, or what was kept elsewhere."""
        wanted, kept = self.marks.read(), self.kept
        if wanted is None or kept is None:
            wanted = wanted or kept
        elif kept.seal > wanted.seal:
            wanted = replace(wanted, signed=kept.signed)
        async with self.store.read() as reader:
            self.lacked = await lacking(reader, wanted, self._keys)
        return wanted

    async def _read(self, lines: Iterable[str], wanted: Mark, *, whole: bool = True) -> Exported:
        async with self.store.read() as reader:
            return await read_export(reader, lines, Inspection(self.audit_key, self.public), wanted, whole=whole)

    async def _replay(self, cause: Cause, exported: Exported, wanted: Mark, accepted: str = "") -> Checked:
        async with self.store.begin(cause) as unit:
            await revocations.lock_numbers(unit)  # before the writers of the audit log, as whoever revokes takes them
            back = await put_back(unit, exported, wanted)
            placed = await place(unit, back.lost, back.strays, wanted.epoch)
            await write_again(unit, back.strays, placed.moved, self.audit_key, self.store)
            came = Came()
            for entry in back.lost:
                came.note(await replay(unit, entry))
            came.add(await set_states(unit, back.lost, placed, self.keep))
            filled = await missing(unit, placed, wanted.epoch)
            if not accepted:
                _refuse_untold(filled, placed)
            await fill(unit, filled)
            await self._note(unit, len(back.lost), came, filled, accepted)
            if not accepted and (lacks := await lacking(unit, wanted, self._keys)):
                raise TwinlockError(f"even with that export {lacks}", hint=_SHORT)
            await newest(unit, self._keys)  # where no mark can be made of it, nothing of this is done
        await self._agree(Mark() if accepted else wanted)
        return Checked(self.lacked, len(back.lost), came.replayed, tuple(came.unreplayed))

    async def _note(self, unit: Unit, lost: int, came: Came, filled: Sequence[int], accepted: str) -> None:
        said: dict[str, Scalar] = {"lacked": self.lacked, "entries": lost, "replayed": came.replayed}
        said |= {"unreplayed": len(came.unreplayed), "sender": unit.sender}
        kind = "restore-checked"
        if accepted:
            kind, said = "restore-accepted", {**said, "lacks": said.pop("lacked"), "reason": accepted}
        detail = {**said, FILLED_NUMBERS: filled} if filled else said
        await self.audit.append(unit, *came.audited, AuditEntry(kind, None, None, detail))

    async def _agree(self, known: Mark) -> None:
        async with self.store.read() as reader:
            self.marks.write(known.moved_on(await newest(reader, self._keys)))

    @property
    def _keys(self) -> LogKeys:
        return LogKeys(self.audit_key, self.public)


def _refuse_untold(filled: Sequence[int], placed: Placed) -> None:
    """Raise where nothing explains a number, for it may be a revocation, and a newer export may tell of it.

    Also below one that is told of: a revocation from a home without an audit key has its entry from the custodian that
    announces it, which may come after that of the next one. Older versions took some numbers without naming them.
    """
    if len(filled) > placed.unnumbered:
        raise TwinlockError(f"even with that export it lacks revocation {filled[-1]}", hint=_SHORT)
