"""Read an exported audit log, and believe nothing but what its MACs, its chain and a signed checkpoint vouch for."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, groupby
from types import SimpleNamespace
from typing import Any

from sqlalchemy import select

from twinlock.custody.audit.chain import Run, Signed
from twinlock.custody.audit.cut import UNREADABLE, Cut, checked_cut
from twinlock.custody.audit.inspection import Inspection
from twinlock.custody.audit.reading import PAGE
from twinlock.custody.revocation.mark import Mark
from twinlock.errors import TwinlockError
from twinlock.store.tables.custody import audit_seals
from twinlock.store.unit import Reader


class BadExport(TwinlockError):
    """Refuse an export that is no audit log of this installation, or not as new as what was signed."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"the exported log can't be used: {detail}", hint="export one: twinlock audit export FILE")


@dataclass(frozen=True, slots=True)
class Sealed:
    """Hold a seal with its head, and the entries that it covers."""

    run: Run
    head: bytes
    entries: tuple[Any, ...]


@dataclass(slots=True)
class Exported:
    """Hold the part of a log that the database does not have: from seal `common` on, and what was not sealed."""

    common: int = 0
    begins: int = 0  # the seal behind which the export itself begins
    sealed: list[Sealed] = field(default_factory=list)
    tail: list[Any] = field(default_factory=list)

    @property
    def entries(self) -> Iterator[Any]:
        """Return its entries, in the order of the chain."""
        for sealed in self.sealed:
            yield from sealed.entries
        yield from self.tail


async def read_export(
    reader: Reader, lines: Iterable[str], inspection: Inspection, newest: Mark, *, whole: bool = True
) -> Exported:
    """Check a log from where it begins to its end, a seal at a time, and keep what the database does not have.

    Raise `BadExport` unless all of it is genuine, and the checkpoint of `newest` is about it; where it is not the
    `whole`, it may end before that.
    """
    database = await checked_cut(reader, inspection.mac_key, inspection.public)
    found, heads = Exported(common=database.seal if database else 0), _Heads(reader)
    known = database.positions if database else {}
    try:
        begins, rest = _beginning(iter(lines))
        if begins is not None:
            inspection.begin(begins)
            found.begins = begins.seal
            _refuse_broken(inspection)
            found.common = max(found.common, await _connected(begins, database, heads))
        entries = begins.entries if begins else 0
        for (number, writer), group in groupby(map(_parse, rest), key=_place):
            members = tuple(group)
            if number is None:
                inspection.take_tail(writer, members)
                found.tail += [member for member in members if member.sequence > known.get(writer, 0)]
            else:
                entries += len(members)
                run = Run(number, writer, members[0].sequence, members[-1].sequence, members[0].sealed_at, entries)
                inspection.take_seal(run, members[0].head, members, _signed(newest, number))
            _refuse_broken(inspection)
            if number is not None:
                head = None if found.sealed else await heads.at(number)  # also of what is pruned: asked, none times out
                if number >= found.common:
                    _keep(found, Sealed(run, members[0].head, members), head)
    except UNREADABLE as unreadable:
        raise BadExport("a line of it can't be read") from unreadable
    if whole and newest.seal > inspection.seals:
        raise BadExport(f"it ends at seal {inspection.seals}, and seal {newest.seal} was signed: a newer one is needed")
    return found


async def _connected(begins: Cut, database: Cut | None, heads: "_Heads") -> int:
    """Return the seal behind which an export begins, given that the database has what lies before it."""
    if database is not None and database.seal > begins.seal:
        return begins.seal
    if await heads.at(begins.seal) != begins.head:
        raise BadExport(f"it begins behind seal {begins.seal}, which this database does not have")
    return begins.seal


def _refuse_broken(inspection: Inspection) -> None:
    if inspection.breaks:
        raise BadExport(str(inspection.breaks[0]))


class _Heads:
    """Read the heads of the database's seals in their order, a page at a time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._page: dict[int, bytes] = {}
        self._to = 0

    async def at(self, number: int) -> bytes | None:
        if not 0 <= self._to - number < PAGE:
            self._to = number + PAGE - 1
            row = audit_seals.c
            query = select(row.number, row.head).where(row.number.between(number, self._to))
            self._page = {each.number: each.head for each in await self._reader.rows(query)}
        return self._page.get(number)


def _keep(found: Exported, sealed: Sealed, head: bytes | None) -> None:
    if sealed.run.number == found.common and head != sealed.head:
        raise BadExport(f"its seal {found.common} is not the one behind which the database's log begins")
    if head == sealed.head and not found.sealed:
        found.common = sealed.run.number
    else:
        found.sealed.append(sealed)


def _signed(newest: Mark, number: int) -> list[Signed]:
    return [newest.signed] if newest.signed is not None and newest.seal == number else []


def _place(entry: Any) -> tuple[int | None, str]:
    return entry.seal, entry.writer


def _beginning(lines: Iterator[str]) -> tuple[Cut | None, Iterator[str]]:
    """Return what the first line says of where the log begins, if it does, and all that follows."""
    for line in lines:
        said = json.loads(line)
        if "begins" not in said:
            return None, chain([line], lines)
        statement = json.dumps(said["begins"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        signed = Signed(statement, bytes.fromhex(said["signature"]))
        return Cut.of(signed, _entry({**said["record"], "seal": None})), lines
    return None, lines


def _parse(line: str) -> Any:
    return _entry(json.loads(line))


def _entry(said: dict[str, Any]) -> Any:
    seal = said.pop("seal")
    said |= {"mac": bytes.fromhex(said["mac"]), "at": datetime.fromisoformat(said["at"]), "seal": None}
    if seal is not None:
        at, head = datetime.fromisoformat(seal["at"]), bytes.fromhex(seal["head"])
        said |= {"seal": int(seal["number"]), "sealed_at": at, "head": head}
    return SimpleNamespace(**said)
