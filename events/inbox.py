"""The inbox: what makes a delivery that comes twice have its effect once (law 11).

A row exists only for what was handled, so that a retried or redriven delivery runs again and a repeated one does not.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select

from events.once import insert_once
from events.transport import Message
from twinlock.errors import TwinlockError
from twinlock.store.tables.bus import inbox
from twinlock.store.unit import Reader, Unit

FIRST_RECEIPT = "@publisher"  # stands for the publisher itself; no worker can have this name


class Conflict(TwinlockError):
    """Refuse a message whose source and id came before with another body: one of the two is a forgery or a fault."""

    def __init__(self) -> None:
        super().__init__("the same source and id came before with another body", hint="give a new message a new id")


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


async def admit(unit: Unit, entry: Entry) -> bool:
    """Write the inbox row; false if it is there already, `Conflict` if it is there with another body."""
    statement = insert_once(unit, inbox).values(
        consumer=entry.consumer,
        publisher=entry.publisher,
        source=entry.source,
        id=entry.id,
        digest=entry.digest,
        at=unit.clock.now(),
    )
    if (await unit.execute(statement)).rowcount == 1:
        return True
    await handled(unit, entry)
    return False


async def forget(unit: Unit, before: datetime) -> int:
    """Remove rows older than `before`; nothing older may ever be delivered again.

    Those of first receipt stay as long as their requests do, which is for good.
    """
    old = delete(inbox).where(inbox.c.at < before, inbox.c.consumer != FIRST_RECEIPT)
    return (await unit.execute(old)).rowcount
