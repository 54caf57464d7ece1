"""Who is listened to (law 13): a request's authority is settled once, at first receipt; facts come from their workers.

A copy that is retried or redriven may be brought by another login than its publisher's, and the inbox forgets. The
record of the first receipt does neither: it alone decides, and what is handled is handled in its publisher's name.
"""

from dataclasses import replace

from events.answers import answer, refusal_id
from events.authority.concerned import NothingThere, concerned
from events.authority.publishers import rights
from events.authority.records import Record, find, write
from events.handler import Received
from events.inbox import Conflict
from events.transport import Message
from schemas.event import Event
from schemas.identifiers import RequestOutcome
from schemas.names import OPERATOR, WORKERS
from schemas.producers import PRODUCERS
from schemas.registry import REQUESTS
from twinlock.store.unit import LOCAL_PUBLISHER, Reader, Store

REQUEST_TYPES = frozenset(request.type for request in REQUESTS)
UNREGISTERED = "authority: this login is not registered as a publisher"
# One sentence for what is another's and for what is not there: the difference would tell who is a customer.
FORBIDDEN = "authority: something that the request names is not there, or belongs to a tenant that you may not ask for"


class Refused(Exception):
    """Refuse a request; `reason` may be told to its publisher, whoever that is."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotProducer(Exception):
    """Refuse a fact from somebody who does not tell facts of this type."""

    def __init__(self, message: Message) -> None:
        super().__init__(message.type)
        self.reason = f"producer: {message.type} is not for this login to tell"


class Admission:
    """Decide by the publisher that the transport vouches for; `local` is one only where there is no broker."""

    def __init__(self, store: Store) -> None:
        self._store = store
        local = {LOCAL_PUBLISHER} if store.sender == LOCAL_PUBLISHER else set[str]()
        self._commands = local | {OPERATOR}
        self._producers = local
        self._fleet = self._commands | WORKERS

    def is_outsider(self, publisher: str) -> bool:
        """Tell whether a login is not the fleet's own: what it does wrong must fill no table of ours."""
        return publisher not in self._fleet

    def check_producer(self, message: Message) -> None:
        """Raise `NotProducer` for a fact that is not its publisher's to tell; a request is nobody's alone."""
        if message.type in REQUEST_TYPES or message.publisher in self._producers:
            return
        if message.publisher not in PRODUCERS.get(message.type, frozenset()):
            raise NotProducer(message)

    async def admit(self, message: Message, event: Event, received: Received) -> Message | None:
        """Return a message under the publisher in whose name it is handled, or none where nothing is left to do.

        Raise `Refused`, or `Conflict` where the source and id are already those of another request.
        """
        if message.type not in REQUEST_TYPES:
            return message
        async with self._store.read() as reader:
            record = await find(reader, message)
            if record is None or not self._may_bring(message, record):
                await self._refuse_strangers(reader, message)
        if record is None:
            record = await self._settle(message, event, received)
        return self._go_by(record, message)

    def _may_bring(self, message: Message, record: Record) -> bool:
        return message.publisher == record.publisher or message.publisher in WORKERS

    async def _refuse_strangers(self, reader: Reader, message: Message) -> None:
        # Before anything is written, and whatever is known about the id: a flood leaves nothing and learns nothing.
        known = message.publisher in self._commands
        if not known and await rights(reader, message.publisher, message.type) is None:
            raise Refused(UNREGISTERED)

    def _go_by(self, record: Record, message: Message) -> Message | None:
        if not record.is_of(message):
            raise Conflict
        if not self._may_bring(message, record):
            raise Conflict("by another publisher")
        # An outcome was committed with the inbox row, or after it: the inbox may have forgotten, the effect is there.
        if not record.accepted or record.ended:
            return None
        return replace(message, publisher=record.publisher)

    async def _settle(self, message: Message, event: Event, received: Received) -> Record:
        labelled = replace(message, correlation=received.envelope.correlation)
        async with self._store.begin(received.cause) as unit:
            reason = await self._objection(unit, message, event)
            first = await write(unit, labelled, accepted=reason is None)
            if first is not None:
                return first
            if reason is not None:
                # The transport tells the same event where it rejects the copy; after a crash before that, only we do.
                told = refusal_id(message.publisher, message.source, message.id)
                await answer(unit, received.asked, RequestOutcome.REFUSED, {}, reason, told)
        if reason is not None:
            raise Refused(reason)
        return Record.of(message, accepted=True)

    async def _objection(self, reader: Reader, message: Message, event: Event) -> str | None:
        if message.publisher in self._commands:
            return None
        granted = await rights(reader, message.publisher, message.type)
        if granted is None:
            raise Refused(UNREGISTERED)  # removed since it was looked up; no row either
        if not granted.may:
            return f"authority: {message.publisher} may not ask for {message.type}"
        if granted.all_tenants:
            return None  # the handler tells precisely what is not there
        try:
            return None if granted.cover(await concerned(reader, event)) else FORBIDDEN
        except NothingThere:
            return FORBIDDEN
