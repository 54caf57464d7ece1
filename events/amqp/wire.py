"""A message of ours as RabbitMQ carries it, and back: CloudEvents in structured JSON out, structured or binary mode in.

Who published it is what the broker vouches for (`user_id`). Headers named `twinlock-*` say what an earlier delivery
came to. Anybody can write them, so they are believed only of copies that this very worker has put there.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aio_pika import DeliveryMode
from aio_pika import Message as Outgoing
from aio_pika.abc import AbstractIncomingMessage

from events.dead_letters import named
from events.transport import Message
from schemas.envelope import CONTENT_TYPE, MAX_MESSAGE_BYTES, Envelope, parse
from schemas.event import Malformed, MessageRefused, TooLarge
from schemas.identifiers import PLAIN
from schemas.routing import REQUESTS_EXCHANGE

PUBLISHER, ATTEMPT, REASON, LETTER = "twinlock-publisher", "twinlock-attempt", "twinlock-reason", "twinlock-letter"
ROUND = "twinlock-round"  # which putting back of a dead letter a copy comes from

_STRUCTURED = "application/cloudevents"
_PREFIXES = ("cloudEvents_", "cloudEvents:", "ce-")
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
_LONGEST_LOGIN = 100
_LONGEST_PROPERTY = 255  # bytes
_LABEL = re.compile(PLAIN.strip("^$").replace("+", "{1,200}"))
UNKNOWN = "unknown"
NO_HISTORY = 0, ""
_TWINS = ("specversion", "id", "source", "type", "time")


class NoPublisher(MessageRefused):
    """Refuse a message of which the broker does not say who published it."""

    reason = "no-user-id"


@dataclass(frozen=True, slots=True)
class Arrived:
    """Hold a message that came in, how often handling it has failed, and since which putting back."""

    message: Message
    attempts: int
    round: str


def outgoing(message: Message, login: str, headers: Mapping[str, Any] | None = None) -> Outgoing:
    """Write a message for the broker; `headers` say what came of an earlier delivery."""
    attributes = _attributes(message)
    twins: dict[str, Any] = {f"cloudEvents_{name}": attributes[name] for name in _TWINS if name in attributes}
    return Outgoing(
        message.body,
        headers=twins | dict(headers or {}),
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=message.id,
        type=message.type,
        correlation_id=message.correlation,
        timestamp=_time(attributes.get("time")),
        app_id=login,
        user_id=login,
    )


def _attributes(message: Message) -> dict[str, str]:
    found = {"specversion": "1.0", "id": message.id, "source": message.source, "type": message.type}
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        time = str(json.loads(message.body)["time"])
        found |= {"time": time} if time.isascii() else {}
    return found


def _time(text: str | None) -> datetime | None:
    # The property can't tell a time before 1970, and nobody goes by it: the event has its own.
    with suppress(ValueError, TypeError, OverflowError):
        found = datetime.fromisoformat(text or "")
        return found if found.timestamp() >= 0 else None
    return None


def arrived(delivery: AbstractIncomingMessage, *, believed: bool) -> Arrived:
    """Read what came in; raise a `MessageRefused` that names no value. `believed`: our own copy, with our headers.

    Only what outsiders can write to may travel under another id than its own: many libraries make one up.
    """
    login = publisher(delivery, believed=believed)
    if login is None:
        raise NoPublisher("user_id: publish with the property user_id set to your login")
    body = structured(delivery)
    envelope, event = parse(body)
    if delivery.exchange != REQUESTS_EXCHANGE:
        _refuse_other_label(delivery, envelope)
    message = Message(login, envelope.source, envelope.id, envelope.type, envelope.correlation, body, (envelope, event))
    return Arrived(message, *(history(delivery) if believed else NO_HISTORY))


def _refuse_other_label(delivery: AbstractIncomingMessage, envelope: Envelope) -> None:
    for name, label, own in (("id", delivery.message_id, envelope.id), ("type", delivery.type, envelope.type)):
        if label != own:
            raise Malformed(f"the {name} that it travelled under is not the envelope's")


def publisher(delivery: AbstractIncomingMessage, *, believed: bool) -> str | None:
    """Return the login that published a message at first, or none: nobody vouches for it."""
    original = delivery.headers.get(PUBLISHER) if believed else None
    login = original if isinstance(original, str) else delivery.user_id
    return login if login and len(login) <= _LONGEST_LOGIN else None


def history(delivery: AbstractIncomingMessage) -> tuple[int, str]:
    """Return how often handling had failed when a copy of ours was made, and since which putting back."""
    count, began = delivery.headers.get(ATTEMPT), delivery.headers.get(ROUND)
    return max(0, count) if isinstance(count, int) else 0, began if isinstance(began, str) else ""


def structured(delivery: AbstractIncomingMessage) -> bytes:
    """Return the event as structured JSON, whichever mode it came in; equal messages give equal bytes."""
    if len(delivery.body) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"the message has {len(delivery.body)} bytes; the limit is {MAX_MESSAGE_BYTES}")
    kind = (delivery.content_type or "").partition(";")[0].strip().lower()
    if kind.startswith(_STRUCTURED):
        if kind != f"{_STRUCTURED}+json":
            raise Malformed(f"content_type: of structured events only {_STRUCTURED}+json is read")
        return delivery.body
    found = _headers(delivery.headers)
    if not found:
        raise Malformed(f"content_type: neither {_STRUCTURED}+json, nor headers {_PREFIXES[0]}* of the binary mode")
    return _joined(found | {"datacontenttype": kind or "application/json"}, delivery.body)


def _headers(headers: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for header, value in headers.items():
        name = next((header.removeprefix(prefix) for prefix in _PREFIXES if header.startswith(prefix)), None)
        if name is None:
            continue
        if not _ATTRIBUTE.fullmatch(name) or name == "data":
            raise Malformed("headers: the name of an attribute has letters a to z and digits, at most 20 of them")
        if found.setdefault(name, _text(value)) != _text(value):
            raise Malformed("headers: an attribute is there twice, with two values")
    return found


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes | bytearray):
        with suppress(UnicodeDecodeError):
            return value.decode()
    if isinstance(value, str | int):
        return str(value)
    raise Malformed("headers: the value of an attribute has to be text")


def _joined(attributes: Mapping[str, str], data: bytes) -> bytes:
    # The data is put in as it came, so that what two parsers read differently is still seen and refused; but only
    # after it was read as one whole JSON value, or it could close its own place and write attributes.
    try:
        text = data.decode()
        json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed("data: not JSON in UTF-8") from None
    head = json.dumps(attributes, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f'{head[:-1]},"data":{text}}}'.encode(errors="replace")


def claimed(delivery: AbstractIncomingMessage) -> Message:
    """Return what a message that can't be read says of itself, each name checked or made up from the AMQP properties.

    Nothing here is true; it lets the publisher of a refused message know which one it was.
    """
    found: dict[str, Any] = {"id": delivery.message_id, "type": delivery.type}
    with suppress(MessageRefused, ValueError, RecursionError):
        content = json.loads(structured(delivery))
        found |= {
            name: content[name] for name in ("id", "source", "type") if isinstance(content, dict) and content.get(name)
        }
    names = {name: _label(found.get(name)) for name in ("id", "source", "type")}
    names["id"] = named(names["id"])
    login = delivery.user_id or UNKNOWN
    return Message(login, names["source"], names["id"], names["type"], names["id"], delivery.body)


def _label(value: Any) -> str:
    with suppress(UnicodeEncodeError):  # JSON can spell halves of characters, which nothing of ours can hold
        if isinstance(value, str) and _LABEL.fullmatch(value) and len(value.encode()) <= _LONGEST_PROPERTY:
            return value
    return UNKNOWN
