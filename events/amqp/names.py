"""The names of everything in the broker, in one place: permissions are written against them."""

from collections.abc import Sequence

from schemas.names import CUSTODIAN
from schemas.routing import ALERTS_EXCHANGE, ANSWERS_EXCHANGE, EVENTS_EXCHANGE, PREFIX, REQUESTS_EXCHANGE

__all__ = [
    "ALERTS_EXCHANGE",
    "ANSWERS_EXCHANGE",
    "DLX_KEY",
    "EVENTS_EXCHANGE",
    "LANES",
    "NOW",
    "REJECTED",
    "REPLIES",
    "REQUESTS_EXCHANGE",
    "RPC",
    "UNROUTED",
]

UNROUTED = PREFIX + "unrouted"  # exchange and queue
REJECTED = PREFIX + "rejected"  # exchange and queue
RPC = PREFIX + "rpc"
REPLIES = PREFIX + "replies"
LANES = ("user", "background")

NOW = "now"  # the routing key back into a worker's queue
DLX_KEY = "letter"


def inbound(worker: str) -> str:
    """Name a worker's queue."""
    return f"{PREFIX}{worker}.in"


def retry_exchange(worker: str) -> str:
    """Name the exchange of a worker's retries: what comes through it was put there by that worker."""
    return f"{PREFIX}{worker}.retry"


def retry_queue(worker: str, tier: str) -> str:
    """Name the queue in which a tier's deliveries wait."""
    return f"{PREFIX}{worker}.retry.{tier}"


def letter_exchange(worker: str) -> str:
    """Name the exchange of a worker's dead letters."""
    return f"{PREFIX}{worker}.dlx"


def letter_queue(worker: str) -> str:
    """Name the queue of a worker's dead letters."""
    return f"{PREFIX}{worker}.dlq"


def lane_key(lane: str) -> str:
    """Return the routing key of requests to the custodian in one lane."""
    return f"{CUSTODIAN}.{lane}"


def lane_queue(lane: str) -> str:
    """Name the queue of requests to the custodian in one lane."""
    return f"{PREFIX}{CUSTODIAN}.rpc.{lane}"


def log_queue(exchange: str) -> str:
    """Name the stream that keeps what an exchange carried."""
    return f"{exchange}.log"


def tier_name(seconds: float) -> str:
    """Name a tier of the retry ladder: 5s, 2m, 1h; below a second 250ms."""
    milliseconds = round(seconds * 1000)
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def tier_for(tiers: Sequence[float], delay: float) -> float:
    """Return the smallest tier that is not below the delay, or the largest there is."""
    return min((tier for tier in tiers if tier >= delay), default=max(tiers))
