"""Which delivery a log line belongs to: bound once around the handling of a message, never its body."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from events.transport import Incoming


@dataclass(frozen=True, slots=True)
class Handling:
    """Name one delivery in logs."""

    consumer: str
    type: str
    id: str
    attempts: int


_handling: ContextVar[Handling | None] = ContextVar("twinlock_handling", default=None)


@contextmanager
def handling(consumer: str, incoming: Incoming) -> Iterator[None]:
    """Bind the delivery to every log line inside; tasks started inside inherit it."""
    message = incoming.message
    token = _handling.set(Handling(consumer, message.type, message.id, incoming.attempts))
    try:
        yield
    finally:
        _handling.reset(token)


class DeliveryFields(logging.Filter):
    """Add `consumer`, `event_type`, `event_id` and `attempts` to every record; attach it to a log handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Fill the fields, with none outside of a delivery; let every record pass."""
        current = _handling.get()
        record.consumer = current.consumer if current else None
        record.event_type = current.type if current else None
        record.event_id = current.id if current else None
        record.attempts = current.attempts if current else None
        return True
