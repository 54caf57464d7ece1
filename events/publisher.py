"""The one door for requests: from our own commands and from outside."""

from sqlalchemy import insert

from events.inbox import FIRST_RECEIPT, Conflict, Entry, admit
from events.once import insert_once
from events.transport import Message
from schemas.envelope import enclose, parse, serialise
from schemas.event import Event
from schemas.registry import REQUESTS
from twinlock.errors import TwinlockError
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.work import requests
from twinlock.store.unit import LOCAL_PUBLISHER, Cause, Store, Unit, new_id

_TYPES = frozenset(request.type for request in REQUESTS)


class NotARequest(TwinlockError):
    """Refuse what is not a request: facts are published by workers alone."""

    def __init__(self, event_type: str) -> None:
        super().__init__(f"{event_type} is a fact, not a request", hint=f"requests are {', '.join(sorted(_TYPES))}")


class Publisher:
    """Put requests into the outbox, each with the row that will hold its answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def request(self, event: Event, correlation: str | None = None) -> str:
        """Ask for something in our own name and return the request's id."""
        envelope = enclose(
            event,
            event_id=new_id(),
            source=self._store.source,
            time=self._store.clock.now(),
            correlation=correlation,
            causation=None,
        )
        return await self.publish(serialise(envelope))

    async def publish(self, body: bytes, publisher: str = LOCAL_PUBLISHER) -> str:
        """Take a request as somebody wrote it and return its id; the same body again changes nothing.

        Raise a `MessageRefused`, `NotARequest`, or `Conflict` for a known source and id with another body.
        """
        envelope, _event = parse(body)
        if envelope.type not in _TYPES:
            raise NotARequest(envelope.type)
        message = Message(publisher, envelope.source, envelope.id, envelope.type, envelope.correlation, body)
        async with self._store.begin(Cause(envelope.correlation)) as unit:
            if await admit(unit, Entry.of(FIRST_RECEIPT, message)):
                await _accept(unit, message)
        self._store.outgoing.set()
        return envelope.id


async def _accept(unit: Unit, message: Message) -> None:
    known = {"source": message.source, "id": message.id, "publisher": message.publisher, "type": message.type}
    known |= {"correlation": message.correlation}
    now = unit.clock.now()
    row = known | {"answer": {}, "received_at": now}
    if (await unit.execute(insert_once(unit, requests).values(row))).rowcount == 0:
        raise Conflict  # another publisher used this very source and id
    await unit.execute(insert(outbox).values(known | {"body": message.body, "created_at": now}))
