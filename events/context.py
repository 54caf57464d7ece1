"""Which delivery, tenant and policy a log line belongs to: bound once around the handling, never the message's body."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from hashlib import sha256

from events.transport import Message


@dataclass(frozen=True, slots=True)
class Handling:
    """Name one delivery in logs; `tenant`, `policy` and `job` are what it turned out to be about."""

    consumer: str
    event_type: str
    event_id: str
    attempts: int
    trace_id: str
    tenant: str | None = None
    policy: str | None = None
    job: str | None = None


FIELDS = tuple(each.name for each in fields(Handling))
_handling: ContextVar[Handling | None] = ContextVar("twinlock_handling", default=None)


@contextmanager
def handling(consumer: str, message: Message, attempts: int) -> Iterator[None]:
    """Bind the delivery to every log line inside; tasks started inside inherit it."""
    bound = Handling(consumer, message.type, message.id, attempts, trace_id(message.correlation))
    token = _handling.set(bound)
    try:
        yield
    finally:
        _handling.reset(token)


def about(*, tenant: str | None = None, policy: str | None = None, job: str | None = None) -> None:
    """Add to the delivery that is handled here what it is about; nothing happens outside of one."""
    current = _handling.get()
    if current is not None:
        found = replace(
            current, tenant=tenant or current.tenant, policy=policy or current.policy, job=job or current.job
        )
        _handling.set(found)


def trace_id(correlation: str) -> str:
    """Name the trace of everything that one request set off: 32 hex digits, its own where it is such a number.

    So nothing has to travel with an event for its trace to hold together, and whoever knows one finds the other.
    """
    if len(correlation) == 32 and set(correlation) <= set("0123456789abcdef") and set(correlation) != {"0"}:
        return correlation
    return sha256(correlation.encode()).hexdigest()[:32]


class DeliveryFields(logging.Filter):
    """Add the fields of `Handling` to every record; attach it to a log handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Fill the fields, with none outside of a delivery; let every record pass."""
        current = _handling.get()
        for name in FIELDS:
            setattr(record, name, getattr(current, name) if current else None)
        return True
