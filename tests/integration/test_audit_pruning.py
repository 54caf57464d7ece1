"""Pruning the audit log at a signed checkpoint, once an export has what goes (law 15), on both databases."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, update

from cli.commands.audit_export import open_export, write_export
from cli.main import run
from tests.integration.test_audit_sealing import CAUSE, KEY, SIGNER, Crash, inspected, sealer, tampered, write
from twinlock.clock import ManualClock, SystemClock
from twinlock.custody.audit import pruning
from twinlock.custody.audit.believing import LogKeys
from twinlock.custody.audit.chain import Signed
from twinlock.custody.audit.cut import PRUNED, ForgedCut
from twinlock.custody.audit.exported import BadExport, Exported, read_export
from twinlock.custody.audit.inspection import Inspection
from twinlock.custody.audit.log import AuditEntry, AuditLog, entry_mac
from twinlock.custody.audit.pruning import Pruned, Pruning
from twinlock.custody.audit.reading import PrunedAway, newest_checkpoint
from twinlock.custody.audit.sealing import note_broken
from twinlock.custody.revocation.mark import Mark, lacking
from twinlock.errors import TwinlockError
from twinlock.store.tables.custody import audit_checkpoints, audit_cuts, audit_entries, audit_seals
from twinlock.store.unit import Store

YEAR = 365 * 86400
KEYS = LogKeys(KEY, SIGNER.public)


class Log:
    """Write, seal, export and prune one log."""

    def __init__(self, store: Store, clock: ManualClock, folder: Path) -> None:
        self.store, self.clock, self.file = store, clock, folder / "log.jsonl"

    async def seal(self, **counts: int) -> Signed:
        """Write entries in the names of writers, and seal them; return what was signed."""
        for writer, count in counts.items():
            await write(self.store, writer, count)
        await sealer(self.store).pass_once(insist=True)
        async with self.store.read() as reader:
            signed = await newest_checkpoint(reader)
        assert signed is not None
        return signed

    async def export(self) -> list[str]:
        """Export the log, and return its lines."""
        async with self.store.read() as reader:
            await write_export(reader, self.file)
        with open_export(self.file) as lines:
            return list(lines)

    async def prune(self, lines: list[str], age: float = YEAR) -> Pruned:
        """Prune what is older than a year."""
        audit = AuditLog(self.store, "operator", KEY, self.clock)
        before = self.clock.now() - timedelta(seconds=age)
        return await Pruning(self.store, audit, KEY, SIGNER.public).prune(CAUSE, lines, before)

    async def read(self, lines: list[str], newest: Signed) -> Exported:
        """Hold an export against the database."""
        async with self.store.read() as reader:
            return await read_export(reader, lines, Inspection(KEY, SIGNER.public), Mark(0, newest))

    async def sequences(self, writer: str) -> list[int]:
        """Return the numbers of a writer's entries that are there."""
        mine = select(audit_entries.c.sequence).where(audit_entries.c.writer == writer)
        async with self.store.read() as reader:
            return [row.sequence for row in await reader.rows(mine.order_by(audit_entries.c.sequence))]


@pytest.fixture
async def log(store: Store, clock: ManualClock, tmp_path: Path) -> Log:
    """Return a log of two years: seals 1 and 2 are of the first, `b` was silent in the second."""
    made = Log(store, clock, tmp_path)
    await made.seal(a=3, b=2)
    clock.advance(2 * YEAR)
    await made.seal(a=2)
    return made


async def test_law_15_pruned(log: Log) -> None:
    """Law 15: what is old and exported goes, up to a signed checkpoint; the log is intact and everybody goes on."""
    pruned = await log.prune(await log.export())
    await log.seal(a=1, b=1)
    inspection = await inspected(log.store)

    assert pruned.begins is not None
    assert (3, 2, 5) == (pruned.removed, pruned.begins.seal, pruned.begins.entries)
    assert [3, 4, 5, 6] == await log.sequences("a")
    assert [2, 3] == await log.sequences("b")  # the last one stayed: a number is never given twice
    assert [] == inspection.breaks
    assert (5, 5, 0) == (inspection.pruned, inspection.entries, inspection.unsealed)


async def test_law_15_pruned_again(log: Log) -> None:
    """Law 15: a pruned log is exported from where it begins, and pruned again with that."""
    await log.prune(await log.export())
    await log.seal(b=1)
    log.clock.advance(2 * YEAR)
    await log.seal(a=1)
    pruned = await log.prune(lines := await log.export())

    assert '{"begins":{' == lines[0][:11]
    assert (3, 9) == (pruned.removed, pruned.begins and pruned.begins.entries)
    assert [] == (await inspected(log.store)).breaks
    assert 0 == (await log.prune(lines)).removed


async def test_law_15_not_exported(log: Log) -> None:
    """Law 15: nothing goes that an export lacks, whatever is wrong with it."""
    lines = await log.export()
    wrong = {"cut off": lines[:3], "edited": [lines[0].replace("acme", "evil"), *lines[1:]], "a gap": lines[1:]}
    for name, bad in {**wrong, "nothing": [], "rubbish": ["{}"]}.items():
        with pytest.raises(BadExport):
            await log.prune(bad)

        assert [1, 2, 3, 4, 5] == await log.sequences("a"), name


async def test_young(log: Log) -> None:
    """What is younger stays, however whole the export."""
    pruned = await log.prune(await log.export(), 3 * YEAR)

    assert Pruned(0, None) == pruned
    assert (True, 7) == ((found := await inspected(log.store)).intact, found.entries)


async def test_broken(log: Log) -> None:
    """A log that was found broken is not pruned: what is left of it may show what happened."""
    lines = await log.export()
    async with log.store.begin(CAUSE) as unit:
        await note_broken(unit, "entry 2 of a is missing")
    with pytest.raises(TwinlockError, match="not intact"):
        await log.prune(lines)


async def test_law_15_crash_while_pruning(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 15: whoever prunes and is killed in the middle leaves an intact log, and the next call goes on."""
    lines, remove, left = await log.export(), pruning._remove, [1]

    async def dying(*parts: Any) -> int:
        if not left:
            raise Crash
        left.pop()
        return await remove(*parts)

    monkeypatch.setattr(pruning, "BATCH", 1)
    monkeypatch.setattr(pruning, "_remove", dying)
    with pytest.raises(Crash):
        await log.prune(lines)
    monkeypatch.setattr(pruning, "_remove", remove)

    assert [1, 2] == await log.sequences("b")
    assert [] == (await inspected(log.store)).breaks
    assert 1 == (await log.prune(lines)).removed
    assert [2] == await log.sequences("b")


async def test_law_15_cut_by_somebody_else(log: Log) -> None:
    """Law 15: rows that are removed, and said to be pruned, are found missing: a cut is recorded under the key."""
    kept = await log.seal(a=1)
    lines = await log.export()
    old = (audit_seals.c.number <= 2, audit_checkpoints.c.seal < 2, audit_entries.c.sequence <= 2)
    await tampered(
        log.store,
        *(delete(condition.left.table).where(condition) for condition in old),
        insert(audit_cuts).values(seal=2, writer="a", sequence=4),
    )
    inspection = await inspected(log.store)

    assert "seal 2 is not where the log may begin" == str(inspection.breaks[0])

    with pytest.raises(ForgedCut, match="behind seal 2"):  # or it were a way to have more removed
        await log.prune(lines)
    with pytest.raises(ForgedCut, match="behind seal 2"):
        await log.read(lines, kept)
    await tampered(log.store, delete(audit_cuts))
    inspection = await inspected(log.store, {4: kept})

    assert "seal 1 is missing" == str(inspection.breaks[0])


async def test_law_15_another_cut(log: Log) -> None:
    """Law 15: a genuine record of one cut is none of another."""
    await log.prune(await log.export())
    await log.seal(a=1)
    record = select(audit_entries.c.writer, audit_entries.c.sequence).where(audit_entries.c.kind == PRUNED)
    async with log.store.read() as reader:
        row = await reader.row(record)
        newest = await reader.scalar(select(func.max(audit_checkpoints.c.seal)))
    assert row is not None
    await tampered(log.store, insert(audit_cuts).values(seal=newest, writer=row.writer, sequence=row.sequence))

    assert f"seal {newest} is not where the log may begin" == str((await inspected(log.store)).breaks[0])


@pytest.mark.parametrize("dormant", ["a", "b"])
async def test_law_15_kept_entries(log: Log, dormant: str) -> None:
    """Law 15: what stays of the past is found edited, removed, written anew in its number, and added to."""
    await log.prune(await log.export())
    last = {"a": 3, "b": 2}[dormant]
    mine = (audit_entries.c.writer == dormant, audit_entries.c.sequence == last)
    async with log.store.read() as reader:
        row = await reader.row(select(audit_entries).where(*mine))
    assert row is not None
    was = row._asdict()
    again = AuditEntry("key-opened", "acme", None, {"number": 99})
    anew = {**was, "detail": again.detail, "mac": entry_mac(KEY, dormant, last, row.at, again)}
    edited, more = {**was, "tenant_id": "evil"}, {**was, "sequence": 1}

    for rows, reason in (
        ([edited], f"entry {last} of {dormant} is not as its writer left it"),
        ([], f"entry {last} of {dormant} is missing"),
        ([anew], "seal 2 does not fit the entries that are kept of its past"),
        ([was, more], f"entry 1 of {dormant} is not as its writer left it"),
    ):
        await tampered(log.store, delete(audit_entries).where(*mine), *(insert(audit_entries).values(r) for r in rows))

        assert reason == str((await inspected(log.store)).breaks[0])


async def test_law_15_kept_seals(log: Log) -> None:
    """Law 15: a seal that is kept of the past is found gone or changed, and one that somebody adds to it as well."""
    await log.prune(await log.export())
    async with log.store.read() as reader:
        row = await reader.row(select(audit_seals).where(audit_seals.c.writer == "b"))
    assert row is not None
    was = row._asdict()
    ends = "entry 2 of b is not where its seals end"
    for rows, reason in (
        ([], ends),
        ([{**was, "last": 9}], ends),
        ([was, {**was, "number": 0, "writer": "zoe"}], "seal 0 has no place in the log"),
        ([{**was, "writer": "zoe"}], ends),
    ):
        gone = delete(audit_seals).where(audit_seals.c.writer.in_(("b", "zoe")))
        await tampered(log.store, gone, *(insert(audit_seals).values(r) for r in rows))

        assert reason == str((await inspected(log.store)).breaks[0])
    with pytest.raises(TwinlockError, match="the audit log is not intact"):
        await log.prune(await log.export())


async def test_law_15_edited_before(log: Log) -> None:
    """Law 15: an entry that would stay is no part of a cut where it is not as its writer left it."""
    lines = await log.export()
    mine = (audit_entries.c.writer == "b", audit_entries.c.sequence == 2)
    await tampered(log.store, update(audit_entries).where(*mine).values(tenant_id="evil"))
    with pytest.raises(TwinlockError, match="the audit log is not intact"):
        await log.prune(lines)

    assert [1, 2] == await log.sequences("b")


async def test_clock_stepped(log: Log) -> None:
    """What was sealed under a clock that was far back is not old: what comes before it in the chain is young."""
    log.clock.advance(-3 * YEAR)
    await log.seal(a=1)
    log.clock.advance(3 * YEAR)
    pruned = await log.prune(await log.export())

    assert 2 == (pruned.begins and pruned.begins.seal)


async def test_restored_meanwhile(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that was put back between proof and cut is not cut."""
    proven = Pruning._proven

    async def slow(*parts: Any) -> Any:
        found = await proven(*parts)
        await tampered(log.store, update(audit_seals).where(audit_seals.c.number == 2).values(head=bytes(32)))
        return found

    monkeypatch.setattr(Pruning, "_proven", slow)
    with pytest.raises(TwinlockError, match="changed meanwhile"):
        await log.prune(await log.export())

    assert [1, 2, 3, 4, 5] == await log.sequences("a")


async def test_kept_checkpoints(log: Log) -> None:
    """A checkpoint that was kept is held against where the log begins; an older one is said to be too old."""
    async with log.store.read() as reader:
        rows = await reader.rows(select(audit_checkpoints).order_by(audit_checkpoints.c.seal))
    at_cut = Signed(rows[0].statement, rows[0].signature)
    await log.prune(await log.export())
    foreign = Signed(at_cut.statement.replace(b'"entries":5', b'"entries":6'), at_cut.signature)

    assert (await inspected(log.store, {2: at_cut})).intact
    assert "seal 2 is not what a checkpoint says of it" == str((await inspected(log.store, {2: foreign})).breaks[0])
    with pytest.raises(PrunedAway, match="seal 1 was pruned"):
        await inspected(log.store, {1: at_cut})


async def test_older_mark(log: Log) -> None:
    """A home that last looked before the cut takes the database for no older one; one from behind its end does."""
    old = await log.seal(a=1)
    log.clock.advance(2 * YEAR)
    newest = await log.seal(a=1)
    log.clock.advance(2 * YEAR)
    await log.prune(await log.export())
    async with log.store.read() as reader:
        assert "" == await lacking(reader, Mark(0, old), KEYS)

    await tampered(log.store, delete(audit_seals).where(audit_seals.c.number == 5), delete(audit_cuts))
    async with log.store.read() as reader:
        assert "it lacks seal 5 of the audit log" == await lacking(reader, Mark(0, newest), KEYS)


async def test_law_15_older_database(log: Log) -> None:
    """Law 15: an export that begins behind a cut gives a database from before the cut what it lacks."""
    tables = (audit_entries, audit_seals, audit_checkpoints)
    async with log.store.read() as reader:
        backup = [(table, [row._asdict() for row in await reader.rows(select(table))]) for table in tables]
    await log.prune(await log.export())
    newest = await log.seal(a=1)
    lines = await log.export()
    await tampered(log.store, *(delete(table) for table in (*tables, audit_cuts)))
    async with log.store.begin(CAUSE) as unit:
        for table, rows in backup:
            await unit.execute(insert(table), rows)
    lacking = await log.read(lines, newest)

    assert (3, [4, 5]) == (lacking.common, [sealed.run.number for sealed in lacking.sealed])
    assert {PRUNED, "key-opened"} == {entry.kind for entry in lacking.entries}

    await tampered(log.store, delete(audit_seals).where(audit_seals.c.number >= 2))
    with pytest.raises(BadExport, match="begins behind seal 2, which this database does not have"):
        await log.read(lines, newest)


async def test_law_15_begins_too_late(log: Log) -> None:
    """Law 15: an export from behind a cut has not what goes from a database that was restored from before that cut."""
    tables = (audit_entries, audit_seals, audit_checkpoints)
    async with log.store.read() as reader:
        backup = [(table, [row._asdict() for row in await reader.rows(select(table))]) for table in tables]
    await log.prune(await log.export())
    lines = await log.export()
    await tampered(log.store, *(delete(table) for table in (*tables, audit_cuts)))
    await tampered(log.store, *(insert(table).values(rows) for table, rows in backup))
    with pytest.raises(BadExport, match="begins behind seal 2, and the database's log before that"):
        await log.prune(lines)

    assert [1, 2, 3, 4, 5] == await log.sequences("a")


async def test_older_export(log: Log) -> None:
    """An export from before the cut, with an entry that nobody had sealed, has nothing that a pruned database lacks."""
    signed = await log.seal()
    await write(log.store, "a")
    whole = await log.export()
    await log.seal(b=1)
    log.clock.advance(2 * YEAR)
    await log.seal(a=1)
    await log.prune(await log.export())
    found = await log.read(whole, signed)

    assert (5, [], []) == (found.common, found.sealed, found.tail)


async def test_checkpoint_made_older(log: Log) -> None:
    """How old a checkpoint is, is what was signed, and not what its row says."""
    lines = await log.export()
    long_ago = log.clock.now() - timedelta(seconds=2 * YEAR)
    await tampered(log.store, update(audit_checkpoints).values(at=long_ago))
    with pytest.raises(TwinlockError, match="seal 3 is not as old as its row says"):
        await log.prune(lines)


async def test_checkpoint_put_back(log: Log) -> None:
    """A checkpoint that a restore put back has a row that is younger than it: it is as old as it says all the same."""
    later = log.clock.now() - timedelta(seconds=1.5 * YEAR)
    await tampered(log.store, update(audit_checkpoints).where(audit_checkpoints.c.seal == 2).values(at=later))

    assert 3 == (await log.prune(await log.export())).removed


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prunes what a year has made old; `verify`, an export and every command go on behind it."""
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path / "home"))
    file = str(tmp_path / "log.jsonl")

    def twinlock(*words: str) -> Any:
        assert 0 == run([*words, "--json"]), words
        return json.loads(capsys.readouterr().out)

    twinlock("init")
    twinlock("tenant", "add", "acme")
    twinlock("tenant", "add", "contoso")
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + timedelta(seconds=2 * YEAR))
    whole = twinlock("audit", "export", file)
    pruned = twinlock("audit", "prune", file)
    twinlock("tenant", "add", "fabrikam")
    again = twinlock("audit", "export", file)
    verified = twinlock("audit", "verify")

    assert 1 < whole["exported"] == pruned["removed"] + 1 == pruned["pruned"] == verified["pruned"]
    assert (True, 2) == (verified["intact"], verified["entries"])  # the record of the cut, and the tenant since
    assert (True, 2) == (again["intact"], again["exported"])
    assert 0 == twinlock("audit", "prune", file)["removed"]
