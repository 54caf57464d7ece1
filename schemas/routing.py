"""Where an event travels: the exchange and the routing key."""

import hashlib
import re

from pydantic import BaseModel

from schemas.event import Event
from schemas.facts import AlertChanged, RequestAnswered
from schemas.registry import REQUESTS

PREFIX = "twinlock."
REQUESTS_EXCHANGE = "twinlock.requests"
EVENTS_EXCHANGE = "twinlock.events"
ALERTS_EXCHANGE = "twinlock.alerts"
ANSWERS_EXCHANGE = "twinlock.answers"

LOCAL = "local"  # the publisher where there is no broker
_ADDRESSES = {
    RequestAnswered.type: "answer.{publisher}.{outcome}",
    AlertChanged.type: "alert.{audience}.{tenant}.{severity}.{kind}",
}
_REQUEST_TYPES = frozenset(request.type for request in REQUESTS)
_HASHED = "sha256-"
_WORD = re.compile(rf"(?!{_HASHED})[A-Za-z0-9_-]{{1,100}}")


class _Answered(BaseModel):
    data: RequestAnswered


class _Alerted(BaseModel):
    data: AlertChanged


def routing_key(event_type: str) -> str:
    """Return the type without its prefix, so that `policy.*.v1` is a useful binding."""
    return event_type.removeprefix(PREFIX)


def exchange(event: type[Event]) -> str:
    """Name the exchange: publishers may write to that of the requests alone, and read that of the answers."""
    return binding(event.type)[0]


def address(event: type[Event]) -> str:
    """Return the routing key of a type as AsyncAPI writes it, with a parameter where it depends on the event."""
    return _ADDRESSES.get(event.type) or routing_key(event.type)


def destination(event_type: str, body: bytes) -> tuple[str, str]:
    """Return exchange and routing key of a message of ours; only an answer's and an alert's depend on what it says."""
    if event_type == RequestAnswered.type:
        answer = _Answered.model_validate_json(body).data
        return ANSWERS_EXCHANGE, answer_key(answer.publisher, answer.outcome)
    if event_type == AlertChanged.type:
        return ALERTS_EXCHANGE, alert_key(_Alerted.model_validate_json(body).data)
    return binding(event_type)


def binding(event_type: str) -> tuple[str, str]:
    """Return exchange and binding key with which a consumer gets every event of a type."""
    if event_type == RequestAnswered.type:
        return ANSWERS_EXCHANGE, "answer.#"
    if event_type == AlertChanged.type:
        return ALERTS_EXCHANGE, "alert.#"
    return REQUESTS_EXCHANGE if event_type in _REQUEST_TYPES else EVENTS_EXCHANGE, routing_key(event_type)


def answer_key(publisher: str | None, outcome: str) -> str:
    """Return the routing key of an answer: permissions confine a publisher to its own word in it."""
    return f"answer.{word(publisher or LOCAL)}.{outcome}"


def alert_key(alert: AlertChanged) -> str:
    """Return the routing key of an alert: permissions confine a subscriber to its own audience and tenant in it."""
    return f"alert.{alert.audience}.{word(alert.tenant)}.{alert.severity}.{word(alert.kind)}"


def word(login: str) -> str:
    """Return a login or a tenant as one word of a routing key; one with a dot could name another's words."""
    if _WORD.fullmatch(login):
        return login
    return _HASHED + hashlib.sha256(login.encode(errors="replace")).hexdigest()[:32]
