"""The inbox: what makes a delivery that comes twice have its effect once (law 11).

A row exists only for what was handled, so that a retried or redriven delivery runs again and a repeated one does not.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select

from events.transport import Message
from schemas.names import COLLECTOR
from twinlock.errors import TwinlockError
from twinlock.store.once import insert_once
from twinlock.store.pruning import prune
from twinlock.store.tables.bus import inbox
from twinlock.store.unit import Reader, Store, Unit

_KEY = (inbox.c.consumer, inbox.c.publisher, inbox.c.source, inbox.c.id)


class Conflict(TwinlockError):
    """Refuse a message whose source and id are already those of another: one of the two is a forgery or a fault."""

    def __init__(self, how: str = "with another body") -> None:
        super().__init__(f"the same source and id came before {how}", hint="give a new message a new id")


@dataclass(frozen=True, slots=True)
class Entry:
    """Name one handled message: who handled it, who vouches for it, and the digest of its body."""

    consumer: str
    publisher: str
    source: str
    id: str
    digest: bytes

    @classmethod
    def of(cls, consumer: str, message: Message) -> "Entry":
        """Name what a consumer handles when it handles this message."""
        digest = hashlib.sha256(message.body).digest()
        return cls(consumer, message.publisher, message.source, message.id, digest)

    @property
    def key(self) -> tuple[str, ...]:
        """Return what names the message."""
        return self.consumer, self.publisher, self.source, self.id


async def handled(reader: Reader, entry: Entry) -> bool:
    """Tell whether the message was handled before; raise `Conflict` if it was, with another body."""
    known = await reader.scalar(
        select(inbox.c.digest).where(
            inbox.c.consumer == entry.consumer,
            inbox.c.publisher == entry.publisher,
            inbox.c.source == entry.source,
            inbox.c.id == entry.id,
        )
    )
    if known is not None and known != entry.digest:
        raise Conflict
    return known is not None


async def handled_among(reader: Reader, entries: Sequence[Entry]) -> Sequence[bool]:
    """Tell for each message whether it was handled before, by the same body or by another one: `admit` tells which."""
    # By every part of the key: the index has nothing for an id alone.
    parts = zip(*(entry.key for entry in entries), strict=True)
    query = select(*_KEY).where(*(column.in_(set(part)) for column, part in zip(_KEY, parts, strict=True)))
    known = {tuple(row) for row in await reader.rows(query)}
    return [entry.key in known for entry in entries]


async def admit(unit: Unit, entry: Entry) -> bool:
    """Write the inbox row; false if it is there already, `Conflict` if it is there with another body."""
    if (await unit.execute(insert_once(unit, inbox).values(_row(unit, entry)))).rowcount == 1:
        return True
    await handled(unit, entry)
    return False


async def admit_all(unit: Unit, entries: Sequence[Entry]) -> set[tuple[str, ...]]:
    """Write the inbox rows and return the keys of those that were not there already."""
    written = await unit.execute(insert_once(unit, inbox).returning(*_KEY), [_row(unit, entry) for entry in entries])
    return {tuple(row) for row in written.all()}


def _row(unit: Unit, entry: Entry) -> dict[str, Any]:
    return {
        "consumer": entry.consumer,
        "publisher": entry.publisher,
        "source": entry.source,
        "id": entry.id,
        "digest": entry.digest,
        "at": unit.clock.now(),
    }


async def forget(store: Store, consumer: str, before: datetime) -> int:
    """Remove a consumer's rows older than `before`, also those of its dead letters.

    Nothing older may ever be delivered again, but a request with its outcome.
    """
    letters = and_(inbox.c.consumer == COLLECTOR, inbox.c.publisher == consumer)
    return await prune(store, inbox.c.at, before, or_(inbox.c.consumer == consumer, letters))
