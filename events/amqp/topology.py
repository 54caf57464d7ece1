"""What has to be in the broker: pure data. Every argument is valid on RabbitMQ 3.10 and on 4.x.

Arguments can't be changed once a queue exists: limits that somebody may want to tune belong into a policy. Streams
are bound to the exchanges that anybody or nobody may listen to, so that what is published there has a place to go,
and only a missing consumer's binding is unrouted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from events.amqp import names
from events.ladder import Ladder
from schemas.routing import binding

TIERS = Ladder().tiers
_DAY_MS = 86_400_000
_MIB = 1 << 20

# At-least-once dead-lettering silently becomes at-most-once unless the queue rejects what it has no room for.
_SAFE: dict[str, Any] = {"x-queue-type": "quorum", "x-overflow": "reject-publish"}
_CRASH_LOOPS = 20  # deliveries that end without settlement, before the broker gives a message up by itself
_STREAM: dict[str, Any] = {"x-queue-type": "stream", "x-max-age": "7D", "x-stream-max-segment-size-bytes": 50 * _MIB}


@dataclass(frozen=True, slots=True)
class Exchange:
    """Describe a durable exchange."""

    name: str
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """Describe a durable queue."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """Describe which messages of an exchange go to a queue."""

    exchange: str
    queue: str
    key: str


@dataclass(frozen=True, slots=True)
class Topology:
    """Hold everything that is declared, each after what it refers to."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]

    def __add__(self, other: "Topology") -> "Topology":
        """Return both together."""
        return Topology(self.exchanges + other.exchanges, self.queues + other.queues, self.bindings + other.bindings)


def fleet(workers: Mapping[str, Iterable[str]], tiers: Sequence[float] = TIERS) -> Topology:
    """Return the whole topology for these workers, each with the types of events that it handles."""
    whole = shared() + custodian()
    for name, types in workers.items():
        whole += worker(name, types, tiers)
    return whole


def shared() -> Topology:
    """Return what belongs to no worker."""
    unrouted = {"alternate-exchange": names.UNROUTED}
    sink = {"x-queue-type": "quorum", "x-overflow": "drop-head", "x-message-ttl": 7 * _DAY_MS}
    logs = (names.EVENTS_EXCHANGE, names.ALERTS_EXCHANGE, names.ANSWERS_EXCHANGE)
    return Topology(
        (
            Exchange(names.UNROUTED, "fanout"),
            Exchange(names.REQUESTS_EXCHANGE, "topic", unrouted),
            Exchange(names.EVENTS_EXCHANGE, "topic", unrouted),
            Exchange(names.ALERTS_EXCHANGE, "topic"),
            Exchange(names.ANSWERS_EXCHANGE, "topic"),
            Exchange(names.REJECTED, "fanout"),
        ),
        (
            Queue(names.UNROUTED, sink | {"x-max-length": 100_000, "x-max-length-bytes": 256 * _MIB}),
            Queue(names.REJECTED, sink | {"x-max-length": 10_000, "x-max-length-bytes": 64 * _MIB}),
            *(Queue(names.log_queue(name), _STREAM | {"x-max-length-bytes": 1000 * _MIB}) for name in logs),
        ),
        (
            Binding(names.UNROUTED, names.UNROUTED, ""),
            Binding(names.REJECTED, names.REJECTED, ""),
            *(Binding(name, names.log_queue(name), "#") for name in logs),
        ),
    )


def custodian() -> Topology:
    """Return what requests to the custodian travel on; they expire with their callers."""
    lane = {"x-queue-type": "classic", "x-message-ttl": 30_000, "x-max-length": 10_000, "x-overflow": "reject-publish"}
    return Topology(
        (Exchange(names.RPC, "direct"), Exchange(names.REPLIES, "direct")),
        tuple(Queue(names.lane_queue(name), lane) for name in names.LANES),
        tuple(Binding(names.RPC, names.lane_queue(name), names.lane_key(name)) for name in names.LANES),
    )


def worker(name: str, types: Iterable[str], tiers: Sequence[float] = TIERS) -> Topology:
    """Return a worker's queue, its retry ladder and its dead letters: no other worker may write to any of them."""
    inbound, letters = names.inbound(name), names.letter_queue(name)
    retry, dlx = names.retry_exchange(name), names.letter_exchange(name)
    waiting = [(names.tier_name(tier), round(tier * 1000)) for tier in sorted(set(tiers))]
    return Topology(
        (Exchange(dlx, "direct"), Exchange(retry, "direct")),
        (
            Queue(letters, _SAFE),
            Queue(inbound, _inbound_arguments(dlx)),
            *(Queue(names.retry_queue(name, tier), _tier_arguments(retry, ttl)) for tier, ttl in waiting),
        ),
        (
            Binding(dlx, letters, names.DLX_KEY),
            Binding(retry, inbound, names.NOW),
            *(Binding(retry, names.retry_queue(name, tier), tier) for tier, _ttl in waiting),
            *(Binding(exchange, inbound, key) for exchange, key in sorted(map(binding, types))),
        ),
    )


def _inbound_arguments(dlx: str) -> Mapping[str, Any]:
    return _SAFE | _to(dlx, names.DLX_KEY) | {"x-delivery-limit": _CRASH_LOOPS, "x-queue-leader-locator": "balanced"}


def _tier_arguments(retry: str, ttl: int) -> Mapping[str, Any]:
    return _SAFE | _to(retry, names.NOW) | {"x-message-ttl": ttl}


def _to(exchange: str, key: str) -> dict[str, Any]:
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": key,
        "x-dead-letter-strategy": "at-least-once",
    }
