"""Read the audit log: in the order of its chain, or a tenant's part of it; and inspect all of it as it is stored."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, func, select

from twinlock.custody.audit.chain import Run, Signed
from twinlock.custody.audit.cut import Cut, read_cut
from twinlock.custody.audit.inspection import Inspection
from twinlock.custody.audit.sealing import writers
from twinlock.errors import TwinlockError
from twinlock.store.tables.custody import audit_checkpoints, audit_entries, audit_seals, custodians
from twinlock.store.unit import Reader

PAGE = 500
_HINT = "hold a checkpoint that was kept since then against it"
_entry, _seal, _checkpoint = audit_entries.c, audit_seals.c, audit_checkpoints.c


class PrunedAway(TwinlockError):
    """Say that what somebody asks for was exported and pruned."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Hold the entries of one seal, or those of a writer that are not sealed yet."""

    writer: str
    entries: Sequence[Any]
    seal: Any = None


async def walk(reader: Reader, cut: Cut | None = None) -> AsyncIterator[Piece]:
    """Yield the whole log in the order of its chain, or what lies behind a cut, and then what is not sealed."""
    positions = dict(cut.positions) if cut else {}
    after = cut.seal if cut else -(2**62)
    while seals := await reader.rows(_page(after)):
        for seal in seals:
            within = _entry.sequence.between(seal.first, seal.last)
            yield Piece(seal.writer, await _entries(reader, seal.writer, within), seal)
            positions[seal.writer] = seal.last
        after = seals[-1].number
    for writer in await writers(reader, audit_entries):
        async for entries in _tail(reader, writer, positions.get(writer, 0)):
            yield Piece(writer, entries)


def _page(after: int) -> Any:
    return select(audit_seals).where(_seal.number > after).order_by(_seal.number).limit(PAGE)


async def _tail(reader: Reader, writer: str, place: int, last: int = 2**62) -> AsyncIterator[Sequence[Any]]:
    if misplaced := await _entries(reader, writer, _entry.sequence < 1):
        yield misplaced
    while entries := await _entries(reader, writer, _entry.sequence.between(max(place, 0) + 1, last), PAGE):
        yield entries
        place = entries[-1].sequence


async def _entries(reader: Reader, writer: str, within: ColumnElement[bool], most: int | None = None) -> Sequence[Any]:
    own = (_entry.writer == writer, within)
    try:
        return await reader.rows(select(audit_entries).where(*own).order_by(_entry.sequence).limit(most))
    except ValueError:  # somebody wrote into one what is no date or no JSON
        numbers = await reader.rows(select(_entry.sequence).where(*own).order_by(_entry.sequence).limit(most))
        return [await _single(reader, writer, number.sequence) for number in numbers]


async def _single(reader: Reader, writer: str, sequence: int) -> Any:
    try:
        return await reader.row(select(audit_entries).where(_entry.writer == writer, _entry.sequence == sequence))
    except ValueError:
        return SimpleNamespace(writer=writer, sequence=sequence, mac=b"")  # which no writer can have left


async def inspect(reader: Reader, inspection: Inspection, kept: Mapping[int, Signed] | None = None) -> None:
    """Hold the whole log against its chain, its checkpoints, and those that somebody `kept`, by their seal.

    Raise `PrunedAway` where one that was kept is of a past that is not there any more.
    """
    kept, seen = kept or {}, set[int]()
    cut = await read_cut(reader)
    begins = cut.seal if cut else 0
    if old := sorted(seal for seal in kept if seal < begins):
        raise PrunedAway(f"seal {old[0]} was pruned: the log begins behind seal {begins}", hint=_HINT)
    if cut:
        inspection.begin(cut, [kept[begins]] if begins in kept else [])
        if cut.is_genuine(inspection.mac_key, inspection.public):
            await _inspect_left(reader, inspection, cut)
        else:
            cut = None  # its places are whoever's who forged it
    async for piece in walk(reader, cut):
        if piece.seal is None:
            inspection.take_tail(piece.writer, piece.entries)
            continue
        seal = piece.seal
        run = Run(seal.number, seal.writer, seal.first, seal.last, seal.at, seal.entries)
        seen.add(seal.number)
        inspection.take_seal(run, seal.head, piece.entries, await _signed(reader, seal.number, kept))
    stored = await reader.rows(select(_checkpoint.seal))
    told = {*kept, *(row.seal for row in stored)}
    inspection.end({seal for seal in told if seal > begins} - seen)


async def _inspect_left(reader: Reader, inspection: Inspection, cut: Cut) -> None:
    """Look at what is there of the past: each writer's last entry and seal, and what is still to be deleted."""
    stays, sealed = [], {}
    for writer, place in cut.positions.items():
        async for entries in _tail(reader, writer, 0, place):
            inspection.take_left(entries)
            stays += [entry for entry in entries if entry.sequence == place]
        own = (_seal.writer == writer, _seal.number <= cut.seal)
        sealed[writer] = await reader.scalar(select(func.max(_seal.last)).where(*own))
    strangers = (_seal.number <= cut.seal, _seal.writer.not_in(list(cut.positions)))
    stranger = await reader.scalar(select(func.min(_seal.number)).where(*strangers))
    inspection.check_kept(cut, stays, sealed, stranger)


async def _signed(reader: Reader, number: int, kept: Mapping[int, Signed]) -> list[Signed]:
    row = await reader.row(select(audit_checkpoints).where(_checkpoint.seal == number))
    found = [Signed(row.statement, row.signature)] if row else []
    return found + ([kept[number]] if number in kept else [])


async def newest_checkpoint(reader: Reader) -> Signed | None:
    """Return what was signed last."""
    row = await reader.row(select(audit_checkpoints).order_by(_checkpoint.seal.desc()).limit(1))
    return Signed(row.statement, row.signature) if row else None


async def list_entries(reader: Reader, tenant_id: str | None, most: int | None) -> Sequence[Any]:
    """Return entries, a tenant's or all, in the order of their time; with `most`, the newest."""
    query = select(audit_entries).order_by(_entry.at.desc(), _entry.writer.desc(), _entry.sequence.desc()).limit(most)
    found = await reader.rows(query if tenant_id is None else query.where(_entry.tenant_id == tenant_id))
    return found[::-1]


async def running_since(reader: Reader, confirmed_after: datetime) -> datetime | None:
    """Return since when some custodian runs without a break, as far as the register tells."""
    row = custodians.c
    since: datetime | None = await reader.scalar(
        select(func.min(row.registered_at)).where(row.confirmed_at > confirmed_after)
    )
    return since
