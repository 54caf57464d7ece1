"""Whatever single thing is done to an audit log, the inspection finds it."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from twinlock.custody.audit.chain import GENESIS, Run, Signed, link, sign
from twinlock.custody.audit.inspection import Inspection
from twinlock.custody.audit.log import AuditEntry, entry_mac
from twinlock.keys.signing import SigningKey

KEY = bytes(range(32))
SIGNER, STRANGER = SigningKey.generate(), SigningKey.generate()
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Log:
    """Hold a log as a database does: entries by writer and sequence, seals by number, checkpoints by seal."""

    entries: dict[tuple[str, int], Any] = field(default_factory=dict)
    seals: dict[int, tuple[Run, bytes]] = field(default_factory=dict)
    checkpoints: dict[int, Signed] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)

    def write(self, writer: str) -> None:
        """Write an entry as its writer does."""
        sequence = max([number for name, number in self.entries if name == writer], default=0) + 1
        entry = AuditEntry("key-opened", "t", None, {"number": len(self.entries)})
        at = START + timedelta(seconds=len(self.entries))
        mac = entry_mac(KEY, writer, sequence, at, entry)
        row = {"kind": entry.kind, "tenant_id": "t", "policy_id": None, "detail": dict(entry.detail), "mac": mac}
        self.entries[writer, sequence] = SimpleNamespace(writer=writer, sequence=sequence, at=at, **row)

    def seal(self) -> None:
        """Seal and sign, as the sealer does."""
        for writer in sorted({writer for writer, _ in self.entries}):
            own = self.of(writer, self.positions.get(writer, 0) + 1, 2**62)
            if own:
                self.seal_run(writer, own)
        if self.seals:
            run, head = self.seals[len(self.seals)]
            self.checkpoints[run.number] = sign(SIGNER, run, head, self.positions, START)

    def seal_run(self, writer: str, own: list[Any]) -> None:
        """Seal a run of entries."""
        before, head = self.seals[len(self.seals)] if self.seals else (None, GENESIS)
        total = (before.entries if before else 0) + len(own)
        run = Run(len(self.seals) + 1, writer, own[0].sequence, own[-1].sequence, START, total)
        self.seals[run.number] = run, link(head, run, [entry.mac for entry in own])
        self.positions[writer] = run.last

    def of(self, writer: str, first: int, last: int) -> list[Any]:
        """Return entries in a range."""
        return [self.entries[at] for at in sorted(self.entries) if at[0] == writer and first <= at[1] <= last]


def inspected(log: Log, kept: dict[int, Signed] | None = None) -> Inspection:
    """Inspect a log."""
    inspection, positions, kept = Inspection(KEY, SIGNER.public), dict[str, int](), kept or {}
    for run, head in (log.seals[number] for number in sorted(log.seals)):
        signed = [each[run.number] for each in (log.checkpoints, kept) if run.number in each]
        inspection.take_seal(run, head, log.of(run.writer, run.first, run.last), signed)
        positions[run.writer] = run.last
    for writer in sorted({writer for writer, _ in log.entries}):
        for part in (log.of(writer, -(2**62), 0), log.of(writer, positions.get(writer, 0) + 1, 2**62)):
            if part:
                inspection.take_tail(writer, part)
    inspection.end({*log.checkpoints, *kept} - set(log.seals))
    return inspection


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Return a log with a few seals, and perhaps a tail."""
    log = Log()
    for writers in draw(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4), min_size=1, max_size=4)):
        for writer in writers:
            log.write(writer)
        log.seal()
    for writer in draw(st.lists(st.sampled_from("abc"), max_size=2)):
        log.write(writer)
    return log


CHANGES: dict[str, Any] = {
    "at": START - timedelta(days=1),
    "kind": "nothing",
    "tenant_id": None,
    "policy_id": "p",
    "detail": {"number": 1.5},
    "mac": bytes(32),
}


@given(log=logs())
def test_law_15_intact(log: Log) -> None:
    """Law 15: a log that nobody touched is intact, and what is not sealed yet is counted apart."""
    inspection = inspected(log, kept=log.checkpoints)

    assert [] == inspection.breaks
    assert (len(log.entries), len(log.seals)) == (inspection.entries, inspection.seals)
    assert len(log.entries) - sum(log.positions.values()) == inspection.unsealed


@given(log=logs(), data=st.data())
def test_law_15_edit(log: Log, data: st.DataObject) -> None:
    """Law 15: an edit of any field of any entry is found, and where it is."""
    at = data.draw(st.sampled_from(sorted(log.entries)))
    name = data.draw(st.sampled_from(sorted(CHANGES)))
    setattr(log.entries[at], name, CHANGES[name])

    assert at == inspected(log).breaks[0][1:3]


@given(log=logs(), data=st.data())
def test_law_15_rewritten(log: Log, data: st.DataObject) -> None:
    """Law 15: an edit of a sealed entry is found also where whoever made it has the key of the MACs."""
    at = data.draw(st.sampled_from(sorted(log.entries)))
    assume(at[1] <= log.positions.get(at[0], 0))
    row = log.entries[at]
    row.detail = {"number": -1}
    row.mac = entry_mac(KEY, *at, row.at, AuditEntry(row.kind, row.tenant_id, row.policy_id, row.detail))

    assert "does not fit the entries that it covers" == inspected(log).breaks[0].reason


@given(log=logs(), data=st.data())
def test_law_15_deletion(log: Log, data: st.DataObject) -> None:
    """Law 15: the deletion of any entry is found, but for the last ones of a tail, which nothing has seen yet."""
    at = data.draw(st.sampled_from(sorted(log.entries)))
    newest = max(number for writer, number in log.entries if writer == at[0])
    assume(at[1] <= log.positions.get(at[0], 0) or at[1] < newest)
    del log.entries[at]

    assert at == inspected(log).breaks[0][1:3]


@given(log=logs(), writer=st.sampled_from("abz"), sequence=st.integers(-3, 20), data=st.data())
def test_law_15_insertion(log: Log, writer: str, sequence: int, data: st.DataObject) -> None:
    """Law 15: an entry that was put in anywhere is found, also a copy of a real one."""
    assume((writer, sequence) not in log.entries)
    copy = deepcopy(log.entries[data.draw(st.sampled_from(sorted(log.entries)))])
    copy.writer, copy.sequence = writer, sequence
    log.entries[writer, sequence] = copy

    assert not inspected(log).intact


@given(log=logs(), data=st.data())
def test_law_15_swap(log: Log, data: st.DataObject) -> None:
    """Law 15: two entries that changed places are found."""
    assume(len(log.entries) > 1)
    one, other = data.draw(st.lists(st.sampled_from(sorted(log.entries)), min_size=2, max_size=2, unique=True))
    first, second = log.entries[one], log.entries[other]
    (first.writer, first.sequence), (second.writer, second.sequence) = other, one
    log.entries[one], log.entries[other] = second, first

    assert not inspected(log).intact


@given(log=logs(), data=st.data())
def test_law_15_truncation(log: Log, data: st.DataObject) -> None:
    """Law 15: a log that was cut back to an earlier checkpoint is consistent, and found by any later one kept."""
    cut = data.draw(st.sampled_from([0, *sorted(log.checkpoints)]))
    assume(cut < len(log.seals))
    kept = {len(log.seals): log.checkpoints[len(log.seals)]}
    log.positions.clear()
    for number in sorted(log.seals):
        if number <= cut:
            log.positions[log.seals[number][0].writer] = log.seals[number][0].last
    log.entries = {at: row for at, row in log.entries.items() if at[1] <= log.positions.get(at[0], 0)}
    log.seals = {number: seal for number, seal in log.seals.items() if number <= cut}
    cut_off = replace(log, checkpoints={seal: signed for seal, signed in log.checkpoints.items() if seal <= cut})

    assert not inspected(log).intact
    assert inspected(cut_off).intact
    assert not inspected(cut_off, kept).intact


@given(log=logs(), data=st.data())
def test_law_15_rebuilt(log: Log, data: st.DataObject) -> None:
    """Law 15: a chain that was built anew over other entries does not fit a checkpoint that was kept."""
    kept = dict(log.checkpoints)
    at = data.draw(st.sampled_from(sorted(at for at in log.entries if at[1] <= log.positions.get(at[0], 0))))
    row = log.entries[at]
    row.detail = {"number": -1}
    row.mac = entry_mac(KEY, *at, row.at, AuditEntry(row.kind, row.tenant_id, row.policy_id, row.detail))
    rebuilt = Log(entries=log.entries)
    for run, _ in log.seals.values():
        rebuilt.seal_run(run.writer, log.of(run.writer, run.first, run.last))
    run, head = rebuilt.seals[len(rebuilt.seals)]
    rebuilt.checkpoints[run.number] = sign(SIGNER, run, head, rebuilt.positions, START)

    assert inspected(rebuilt).intact
    assert not inspected(rebuilt, kept).intact


@given(log=logs(), data=st.data())
def test_law_15_seals(log: Log, data: st.DataObject) -> None:
    """Law 15: a seal that was edited in any field, or deleted, is found."""
    number = data.draw(st.sampled_from(sorted(log.seals)))
    run, head = log.seals[number]
    changed = data.draw(
        st.sampled_from(
            [
                None,
                (run, bytes(32)),
                (replace(run, writer="z"), head),
                (replace(run, first=run.first + 1), head),
                (replace(run, last=run.last + 1), head),
                (replace(run, at=START + timedelta(microseconds=1)), head),
                (replace(run, entries=run.entries + 1), head),
                (replace(run, number=number + 100), head),
            ]
        )
    )
    del log.seals[number]
    if changed:
        log.seals[changed[0].number] = changed

    assert not inspected(log).intact


@given(log=logs(), data=st.data())
def test_law_15_checkpoints(log: Log, data: st.DataObject) -> None:
    """Law 15: a checkpoint that is not as it was signed, or by another key, is found; so is that the last is gone."""
    number = data.draw(st.sampled_from(sorted(log.checkpoints)))
    run, head = log.seals[number]
    signed = log.checkpoints[number]
    log.checkpoints[number] = data.draw(
        st.sampled_from(
            [
                Signed(signed.statement.replace(b"2026", b"2027", 1), signed.signature),
                Signed(signed.statement, bytes(64)),
                sign(STRANGER, run, head, log.positions, START),
                sign(SIGNER, run, head, {**log.positions, "z": 1}, START),
                sign(SIGNER, run, bytes(32), log.positions, START),
            ]
        )
    )

    assert number == inspected(log).breaks[0].seal

    log.checkpoints[number] = signed
    del log.checkpoints[max(log.checkpoints)]

    assert "is not signed by a checkpoint" == inspected(log).breaks[0].reason


def test_law_15_overdue() -> None:
    """Law 15: what lies unsealed is overdue only for the time in which something ran that seals."""
    log = Log()
    log.write("a")
    found = []
    for since in (START, START + timedelta(seconds=100)):
        inspection = inspected(log)
        inspection.check_time(START + timedelta(seconds=120), since, 60.0)
        found.append([each.reason for each in inspection.breaks])

    assert [["is overdue"], []] == found
