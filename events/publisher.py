"""The door for our own commands' requests: what goes through it is accepted, and its record says so."""

from sqlalchemy import insert

from events.authority.records import write
from events.inbox import Conflict
from events.transport import Message
from schemas.envelope import enclose, parse, serialise
from schemas.event import Event
from schemas.registry import REQUESTS
from twinlock.errors import TwinlockError
from twinlock.store.tables.bus import outbox
from twinlock.store.unit import Cause, Store, Unit, new_id

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

    async def publish(self, body: bytes) -> str:
        """Take a request as somebody wrote it and return its id; the same body again changes nothing.

        Raise a `MessageRefused`, `NotARequest`, or `Conflict` for a known source and id with another body.
        """
        envelope, _event = parse(body)
        if envelope.type not in _TYPES:
            raise NotARequest(envelope.type)
        message = Message(self._store.sender, envelope.source, envelope.id, envelope.type, envelope.correlation, body)
        async with self._store.begin(Cause(envelope.correlation)) as unit:
            await _accept(unit, message)
        self._store.outgoing.set()
        return envelope.id


async def _accept(unit: Unit, message: Message) -> None:
    first = await write(unit, message, accepted=True)
    if first is None:
        names = ("source", "id", "publisher", "type", "correlation", "body")
        row = {name: getattr(message, name) for name in names}
        await unit.execute(insert(outbox).values(row | {"created_at": unit.clock.now()}))
    elif not first.is_of(message):
        raise Conflict
    elif first.publisher != message.publisher:
        raise Conflict("by another publisher")
