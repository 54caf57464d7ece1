"""Where a type of event travels: the exchange and the routing key."""

from schemas.event import Event
from schemas.registry import REQUESTS

PREFIX = "twinlock."
REQUESTS_EXCHANGE = "twinlock.requests"
EVENTS_EXCHANGE = "twinlock.events"


def routing_key(event_type: str) -> str:
    """Return the type without its prefix, so that `policy.*.v1` is a useful binding."""
    return event_type.removeprefix(PREFIX)


def exchange(event: type[Event]) -> str:
    """Name the exchange: publishers may write to that of the requests alone."""
    return REQUESTS_EXCHANGE if event in REQUESTS else EVENTS_EXCHANGE
