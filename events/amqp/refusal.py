"""What becomes of a message that nobody handles: a bounded queue keeps it, and its publisher is told."""

from typing import Protocol

from aio_pika import DeliveryMode
from aio_pika import Message as Outgoing

from events.amqp import names, wire
from events.amqp.publishing import Parcel
from events.answers import refusal_id
from events.dead_letters import REASON_LIMIT
from events.transport import Message
from schemas.envelope import MAX_MESSAGE_BYTES, enclose, serialise
from schemas.facts import RequestAnswered
from schemas.identifiers import RequestOutcome
from schemas.names import WORKERS
from schemas.routing import destination
from twinlock.keys.ports import Clock
from twinlock.store.unit import new_id


class Refusing(Protocol):
    """Say in whose name a message is refused."""

    login: str
    source: str
    clock: Clock


def refusal(body: bytes, what: Message, publisher: str | None, reason: str, by: Refusing) -> list[Parcel]:
    """Return what replaces a refused message: its copy, cut to size, and the answer to an outsider that is known."""
    copy = Outgoing(
        body[:MAX_MESSAGE_BYTES],
        headers={wire.REASON: reason[:REASON_LIMIT], wire.PUBLISHER: publisher or wire.UNKNOWN},
        content_type="application/octet-stream",
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=new_id(),
        app_id=by.login,
        user_id=by.login,
    )
    parcels = [Parcel(names.REJECTED, "", copy)]
    if publisher is not None and publisher not in WORKERS:
        parcels.append(_answer(what, publisher, reason, by))
    return parcels


def _answer(what: Message, publisher: str, reason: str, by: Refusing) -> Parcel:
    event = RequestAnswered(
        request=what.id,
        request_source=what.source,
        request_type=what.type,
        outcome=RequestOutcome.REFUSED,
        detail=reason,
        publisher=publisher,
    )
    envelope = enclose(
        event,
        event_id=refusal_id(publisher, what.source, what.id),
        source=by.source,
        time=by.clock.now(),
        correlation=what.correlation,
        causation=what.id,
    )
    body = serialise(envelope)
    message = Message(by.login, envelope.source, envelope.id, envelope.type, envelope.correlation, body)
    return Parcel(*destination(event.type, body), wire.outgoing(message, by.login))
