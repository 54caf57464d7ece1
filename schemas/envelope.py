"""The CloudEvents 1.0 envelope in structured JSON, and the one door through which messages come in.

Refusals name fields and never show values: what a stranger sent may hold anything.
"""

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from schemas.event import TYPE_PATTERN, Event, TooLarge, UnknownType, UnknownVersion
from schemas.identifiers import PLAIN, Identifier, Label
from schemas.registry import EVENTS
from schemas.strict import read, refuse_ambiguous

MAX_MESSAGE_BYTES = 64 * 1024
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_VERSION = re.compile(r"\.v[0-9]{1,6}\Z")
_TYPE = re.compile(TYPE_PATTERN)
_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:.]+([Zz]|[+-][0-9]{2}:[0-9]{2})")


def _utc(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    # By itself pydantic reads a number, or a string of digits, as seconds since 1970.
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
    raise ValueError("Input should be a date and time with its offset from UTC (RFC 3339)")


# A mailbox address is the longest thing that an event can be about.
Subject = Annotated[str, Field(min_length=1, max_length=320, pattern=PLAIN)]
Time = Annotated[AwareDatetime, BeforeValidator(_utc)]


class Envelope(BaseModel):
    """Hold the attributes of one event; `source` and `id` together name it for ever."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"]
    id: Identifier
    source: Label
    type: Label
    time: Time
    subject: Subject | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: Label | None = None
    correlationid: Identifier | None = None
    causationid: Identifier | None = None
    data: dict[str, Any]

    @property
    def correlation(self) -> str:
        """Name the request or command that started it all; an event without one starts its own."""
        return self.correlationid or self.id


def schema_uri(event_type: str) -> str:
    """Name the JSON Schema of a type's data."""
    return f"urn:twinlock:schema:{event_type}"


def enclose(
    event: Event, *, event_id: str, source: str, time: datetime, correlation: str | None, causation: str | None
) -> Envelope:
    """Put an event into its envelope."""
    return Envelope(
        specversion="1.0",
        id=event_id,
        source=source,
        type=event.type,
        time=time,
        subject=event.subject,
        dataschema=schema_uri(event.type),
        correlationid=correlation,
        causationid=causation,
        data=event.model_dump(mode="json", exclude_none=True),
    )


def serialise(envelope: Envelope) -> bytes:
    """Return the bytes that travel: equal envelopes give equal bytes."""
    body = json.dumps(
        envelope.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    if len(body) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"the event has {len(body)} bytes; the limit is {MAX_MESSAGE_BYTES}")
    return body


def parse(body: bytes) -> tuple[Envelope, Event]:
    """Read a message from the wire; raise a `MessageRefused` that says exactly what is wrong."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"the message has {len(body)} bytes; the limit is {MAX_MESSAGE_BYTES}")
    envelope = read(Envelope, body, "a CloudEvents 1.0 JSON envelope")
    model = EVENTS.get(envelope.type)
    if model is None:
        raise _unknown(envelope.type)
    refuse_ambiguous(body, Envelope, model)
    return envelope, read(model, json.dumps(envelope.data), f"data of {model.type}")


def _unknown(event_type: str) -> UnknownType | UnknownVersion:
    stem = _VERSION.sub("", event_type)
    known = sorted(name for name in EVENTS if _VERSION.sub("", name) == stem)
    if known:
        later = event_type != stem and _number(event_type) > max(map(_number, known))
        return UnknownVersion(f"type: this version is not read here; known: {', '.join(known)}", later=later)
    return UnknownType("type: no event of this type is defined", later=bool(_TYPE.fullmatch(event_type)))


def _number(event_type: str) -> int:
    return int(event_type.rpartition(".v")[2])
