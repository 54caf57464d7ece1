"""What could not be replayed, for whoever restores."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Unreplayed:
    """Name an entry that could not be replayed, and why; or a number of a revocation that none tells of."""

    kind: str
    writer: str
    sequence: int
    why: str

    @classmethod
    def of(cls, entry: Any, why: str) -> "Unreplayed":
        """Name an entry."""
        return cls(entry.kind, entry.writer, entry.sequence, why)
