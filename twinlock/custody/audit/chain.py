"""The chain over the audit log, and what is signed of it (law 15): bytes alone, as docs/audit.md has them.

A seal covers a run of one writer's entries. Its head is

    SHA-256("twinlock.audit-seal.v1" || 0x00 || head before (32) || number (8) || length of the writer (2) || writer
            || first (8) || last (8) || at, in microseconds since 1970 (8) || entries (8) || MAC of each entry (32))

with numbers big endian. A checkpoint is JSON in the canonical form of the entries, signed as any statement is.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

from twinlock.keys.signing import BadSignature, SigningKey, fingerprint, verify

GENESIS = bytes(32)
LINK = b"twinlock.audit-seal.v1\x00"
SIGNED = b"twinlock.audit-checkpoint.v1"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Run:
    """Describe the entries that a seal covers, and how many there are up to its end."""

    number: int
    writer: str
    first: int
    last: int
    at: datetime
    entries: int


def link(previous: bytes, run: Run, macs: Iterable[bytes]) -> bytes:
    """Return the 32 bytes of the head that a run of entries gives the chain."""
    writer = run.writer.encode()
    places = struct.pack(">QQQQ", run.first, run.last, (run.at - _EPOCH) // _MICROSECOND, run.entries)
    named = struct.pack(">QH", run.number, len(writer)) + writer
    return sha256(b"".join((LINK, previous, named, places, *macs))).digest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Say how far the chain was at a moment, and how far each writer."""

    seal: int
    head: bytes
    entries: int
    positions: Mapping[str, int]
    at: datetime
    key: bytes

    def statement(self) -> bytes:
        """Return the bytes that are signed."""
        said = {
            "at": moment(self.at),
            "entries": self.entries,
            "head": self.head.hex(),
            "key": self.key.hex(),
            "positions": dict(self.positions),
            "seal": self.seal,
        }
        return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Signed:
    """Hold a checkpoint as it was signed."""

    statement: bytes
    signature: bytes

    @property
    def seal(self) -> int:
        """Return the number of the seal that it is about."""
        return int(self._said["seal"])

    @property
    def head(self) -> bytes:
        """Return the head of the chain at that seal."""
        return bytes.fromhex(self._said["head"])

    def is_by(self, public: bytes) -> bool:
        """Say whether the holder of the private key signed it, and it names that key."""
        return _is_by(self, public) and bool(self._said["key"] == fingerprint(public).hex())

    @property
    def _said(self) -> Any:
        return json.loads(self.statement)


@lru_cache(maxsize=8)  # a home's mark and the newest one are looked at every few seconds
def _is_by(signed: Signed, public: bytes) -> bool:
    try:
        verify(public, SIGNED, signed.statement, signed.signature)
    except (BadSignature, TypeError):  # a row may hold text where bytes belong
        return False
    return True


def sign(key: SigningKey, run: Run, head: bytes, positions: Mapping[str, int], at: datetime) -> Signed:
    """Sign how far the chain is."""
    checkpoint = Checkpoint(run.number, head, run.entries, positions, at, fingerprint(key.public))
    statement = checkpoint.statement()
    return Signed(statement, key.sign(SIGNED, statement))


def moment(at: datetime) -> str:
    """Return a moment in the one form that is signed: UTC, always six digits of microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
