"""Look through the audit log in the order of its chain, and find whatever is not as it was written (law 15).

The chain's own numbers are never trusted: everything is computed anew from the entries' MACs, and held against what is
stored, what was signed, and checkpoints that somebody kept elsewhere.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from twinlock.custody.audit.chain import GENESIS, SIGNED, Run, Signed, link
from twinlock.custody.audit.cut import UNREADABLE, Cut
from twinlock.custody.audit.log import is_genuine
from twinlock.keys.signing import BadSignature, fingerprint, verify


class Break(NamedTuple):
    """Say what is wrong and where: at an entry of a writer, or at a seal."""

    reason: str
    writer: str | None = None
    sequence: int | None = None
    seal: int | None = None

    def __str__(self) -> str:
        place = f"entry {self.sequence} of {self.writer}" if self.writer else f"seal {self.seal}"
        return f"{place} {self.reason}"


@dataclass(slots=True)
class Inspection:
    """Take a log piece by piece: every seal with its entries and its checkpoints, then what is not sealed."""

    mac_key: bytes
    public: bytes
    entries: int = 0
    seals: int = 0
    unsealed: int = 0
    breaks: list[Break] = field(default_factory=list)
    _head: bytes = GENESIS
    _covered: int = 0
    _pruned: int = 0
    _positions: dict[str, int] = field(default_factory=dict)
    _tails: dict[str, int] = field(default_factory=dict)
    _signed: int = 0
    _oldest: datetime | None = None

    @property
    def intact(self) -> bool:
        """Say whether everything is as it was written."""
        return not self.breaks

    @property
    def pruned(self) -> int:
        """Return how many entries lie before the cut behind which the log begins."""
        return self._pruned

    def begin(self, cut: Cut, checkpoints: Iterable[Signed] = ()) -> None:
        """Begin behind a cut instead of with the first entry, where it is one that may be, and fits these."""
        if not cut.is_genuine(self.mac_key, self.public):
            self.breaks.append(Break("is not where the log may begin", seal=cut.seal))
            return
        self.seals = self._signed = cut.seal
        self._head, self._covered, self._pruned = cut.head, cut.entries, cut.entries
        self._positions = dict(cut.positions)
        for signed in checkpoints:
            self._check_signed(signed)

    def take_left(self, entries: Sequence[Any]) -> None:
        """Check entries that are still there of what lies before the cut."""
        for entry in entries:
            if not _genuine(self.mac_key, entry):
                self.breaks.append(Break("is not as its writer left it", entry.writer, entry.sequence))

    def check_kept(self, cut: Cut, kept: Sequence[Any], sealed: Mapping[str, int | None], stranger: int | None) -> None:
        """Check each writer's last entry before the cut, and how far its seals reach there.

        Without them a number could be given twice, or an entry sealed twice or never. A `stranger` is a seal of a
        writer of whom the cut knows nothing.
        """
        missing = sorted(cut.positions.keys() - {entry.writer for entry in kept})
        self.breaks += [Break("is missing", writer, cut.positions[writer]) for writer in missing]
        if not missing and not cut.has_kept(kept):
            self.breaks.append(Break("does not fit the entries that are kept of its past", seal=cut.seal))
        ends = sorted(cut.positions.items())
        self.breaks += [
            Break("is not where its seals end", writer, place) for writer, place in ends if sealed.get(writer) != place
        ]
        if stranger is not None:
            self.breaks.append(Break("has no place in the log", seal=stranger))

    def take_seal(self, run: Run, head: bytes, entries: Sequence[Any], checkpoints: Iterable[Signed]) -> None:
        """Check the next seal, the entries that are there in its range, and what was signed of it."""
        before = len(self.breaks)
        if run.number != self.seals + 1:
            self.breaks.append(Break("is missing", seal=self.seals + 1))
        self._check_place(run)
        self._check_entries(run.writer, run.first, entries, run.last)
        self.entries += len(entries)
        self.seals = run.number
        self._covered += run.last - run.first + 1  # and not those found, or one that is missing breaks all that follows
        fits = self._covered == run.entries and _head(self._head, run, entries) == head
        if not fits and len(self.breaks) == before:
            self.breaks.append(Break("does not fit the entries that it covers", seal=run.number))
        self._head, self._positions[run.writer] = head, run.last
        for signed in checkpoints:
            self._check_signed(signed)

    def take_tail(self, writer: str, entries: Sequence[Any]) -> None:
        """Check the next part of what a writer has written since its last seal."""
        place = self._tails.get(writer, self._positions.get(writer, 0))
        self._check_entries(writer, place + 1, entries)
        self._tails[writer] = max(place, entries[-1].sequence)
        self.entries += len(entries)
        self.unsealed += len(entries)
        for entry in entries:
            at = getattr(entry, "at", None)
            if isinstance(at, datetime) and (self._oldest is None or at < self._oldest):
                self._oldest = at

    def end(self, beyond: Iterable[int]) -> None:
        """Check the end of the chain, given the seals that were signed and are not there."""
        if missing := sorted(beyond):
            self.breaks.append(Break("is missing, and a checkpoint tells of it", seal=missing[0]))
        if self._signed < self.seals:
            self.breaks.append(Break("is not signed by a checkpoint", seal=self._signed + 1))

    def check_time(self, now: datetime, since: datetime, most: float) -> None:
        """Find what should be sealed by now, given since when something runs that seals."""
        if self._oldest is not None and now - max(self._oldest, since) > timedelta(seconds=most):
            self.breaks.append(Break("is overdue", seal=self.seals + 1))

    def _check_place(self, run: Run) -> None:
        place = self._positions.get(run.writer, 0)
        if run.first > place + 1:
            self.breaks.append(Break("is missing", run.writer, place + 1))
        elif run.first <= place or run.last < run.first:
            self.breaks.append(Break("covers entries that another one covers", seal=run.number))

    def _check_entries(self, writer: str, first: int, entries: Sequence[Any], last: int | None = None) -> None:
        expected = first
        for entry in entries:
            if entry.sequence > expected:
                self.breaks.append(Break("is missing", writer, expected))
            elif entry.sequence < expected:
                self.breaks.append(Break("has no place in the log", writer, entry.sequence))
            if not _genuine(self.mac_key, entry):
                self.breaks.append(Break("is not as its writer left it", writer, entry.sequence))
            expected = max(expected, entry.sequence + 1)
        if last is not None and expected <= last:
            self.breaks.append(Break("is missing", writer, expected))

    def _check_signed(self, signed: Signed) -> None:
        try:
            verify(self.public, SIGNED, signed.statement, signed.signature)
            fits = self._says(json.loads(signed.statement))
        except (BadSignature, *UNREADABLE):
            fits = False
        if fits:
            self._signed = self.seals
        else:
            self.breaks.append(Break("is not what a checkpoint says of it", seal=self.seals))

    def _says(self, said: Mapping[str, Any]) -> bool:
        expected = {
            "entries": self._covered,
            "head": self._head.hex(),
            "key": fingerprint(self.public).hex(),
            "positions": self._positions,
            "seal": self.seals,
        }
        return {name: value for name, value in said.items() if name != "at"} == expected


def _genuine(mac_key: bytes, entry: Any) -> bool:
    try:
        return is_genuine(mac_key, entry)
    except UNREADABLE:
        return False


def _head(previous: bytes, run: Run, entries: Sequence[Any]) -> bytes | None:
    try:
        return link(previous, run, (entry.mac for entry in entries))
    except (*UNREADABLE, ArithmeticError):
        return None
