"""The record of a request: written once, at its first receipt, with what was settled then (law 13)."""

import hashlib
from dataclasses import dataclass

from sqlalchemy import select

from events.transport import Message
from twinlock.store.once import insert_once
from twinlock.store.tables.work import requests
from twinlock.store.unit import Reader, Unit


@dataclass(frozen=True, slots=True)
class Record:
    """Hold what is settled about a request; `ended` tells whether it has its outcome."""

    publisher: str
    digest: bytes
    accepted: bool
    ended: bool

    @classmethod
    def of(cls, message: Message, *, accepted: bool) -> "Record":
        """Return the record of a request that was just received."""
        return cls(message.publisher, hashlib.sha256(message.body).digest(), accepted, ended=False)

    def is_of(self, message: Message) -> bool:
        """Tell whether these are the bytes that were settled."""
        return self.digest == hashlib.sha256(message.body).digest()


async def find(reader: Reader, message: Message) -> Record | None:
    """Return the record of a request's source and id, or none."""
    row = await reader.row(select(requests).where(requests.c.source == message.source, requests.c.id == message.id))
    return None if row is None else Record(row.publisher, row.digest, row.accepted, row.outcome is not None)


async def write(unit: Unit, message: Message, *, accepted: bool) -> Record | None:
    """Write the record of a first receipt; return the one that is there already where somebody was first."""
    row = {
        "source": message.source,
        "id": message.id,
        "publisher": message.publisher,
        "type": message.type,
        "correlation": message.correlation,
        "digest": hashlib.sha256(message.body).digest(),
        "accepted": accepted,
        "answer": {},
        "received_at": unit.clock.now(),
    }
    if (await unit.execute(insert_once(unit, requests).values(row))).rowcount:
        return None
    return await find(unit, message)
