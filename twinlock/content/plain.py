"""Plaintext on its way in: small enough to hold, or read in chunks and never held."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

ItemKind = Literal["eml", "ics"]


class Plain(Protocol):
    """Give the bytes of one item, as often as asked and always the same; blocking, so called in threads."""

    @property
    def kind(self) -> ItemKind:
        """Return what the bytes are."""
        ...

    @property
    def size(self) -> int:
        """Return how many bytes there are."""
        ...

    def read(self) -> bytes:
        """Return all bytes; only for an item that is small enough to hold."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in bounded chunks."""
        ...


@dataclass(frozen=True, slots=True)
class BytesPlain:
    """Give bytes that are in memory already."""

    kind: ItemKind
    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Return how many bytes there are."""
        return len(self.data)

    def read(self) -> bytes:
        """Return all bytes."""
        return self.data

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes at once."""
        yield self.data
