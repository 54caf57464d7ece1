"""The dead-letter table: what a consumer gave up, why, and the way back.

The way back is a row in `deliveries` for that one consumer: the embedded transport delivers it, and before a broker
it is what has to be sent to that consumer's queue alone.
"""

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select

from events.transport import Message
from schemas.event import Event
from schemas.facts import AlertChanged, AlertCleared, AlertRaised, DeliveryDeadLettered
from schemas.identifiers import PROVIDER, Audience, Severity
from twinlock.errors import NotFound
from twinlock.store.once import insert_once
from twinlock.store.tables.bus import dead_letters, deliveries, outbox
from twinlock.store.text import fitting, storable
from twinlock.store.unit import Cause, Reader, Unit

REASON_LIMIT = 500
UNROUTED = "unrouted"  # the consumer of what nobody here knows: it goes back to where it is routed anew
_NAME = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_COPIED = ("consumer", "publisher", "source", "id", "type", "correlation", "body")
# A consumer of alerts that fails on them would otherwise raise an alert about every alert, for ever.
_UNTOLD = (DeliveryDeadLettered.type, AlertRaised.type, AlertCleared.type)
_KIND = "dead-letter"


class UnknownLetter(NotFound):
    """Refuse to retry dead letters that are not there."""

    def __init__(self, numbers: Collection[int]) -> None:
        names = ", ".join(str(number) for number in sorted(numbers))
        super().__init__(f"no dead letter has the id {names}", hint="see them with: twinlock dlq list")
        self.numbers = tuple(sorted(numbers))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Describe one dead letter, without its body."""

    number: int
    consumer: str
    publisher: str
    source: str
    id: str
    type: str
    correlation: str
    attempts: int
    reason: str
    at: datetime


async def bury(unit: Unit, consumer: str, message: Message, attempts: int, reason: str) -> None:
    """Put a message into the table and tell: the event and the alert leave with the same commit."""
    # Rubbish may carry anything where its names should be, and still has to get in.
    names = {"publisher", "source", "id", "type", "correlation"}
    row: dict[str, Any] = {name: fitting(getattr(message, name), dead_letters.c[name]) for name in names}
    row |= {"consumer": consumer, "body": message.body, "attempts": attempts, "at": unit.clock.now()}
    row |= {"reason": storable(reason, REASON_LIMIT)}
    await unit.execute(insert(dead_letters).values(row))
    if message.type not in _UNTOLD and not _tells_of_letters(message):
        # The letter's own cause, in the same unit: both share the list of queued events.
        telling = replace(unit, cause=Cause(named(message.correlation), named(message.id)))
        for event in _news(consumer, message, attempts, reason[:REASON_LIMIT]):
            telling.emit(event)


def _news(consumer: str, message: Message, attempts: int, reason: str) -> tuple[Event, Event]:
    detail = f"{consumer} gave up on {named(message.type)} {named(message.id)}: {reason}"
    return (
        DeliveryDeadLettered(
            consumer=consumer,
            event=named(message.id),
            event_type=named(message.type),
            attempts=attempts,
            reason=reason,
        ),
        AlertRaised(
            kind=_KIND,
            severity=Severity.WARNING,
            audience=Audience.ENGINEERING,
            tenant=PROVIDER,
            detail=detail,
        ),
    )


def _tells_of_letters(message: Message) -> bool:
    """Tell whether this is the alert about dead letters itself, which somebody did not take."""
    if message.type != AlertChanged.type:
        return False
    try:
        return bool(json.loads(message.body)["data"]["kind"] == _KIND)
    except (ValueError, KeyError, TypeError):
        return False


def named(text: str) -> str:
    """Return a name that fits into our events: rubbish may carry anything where its id should be."""
    return text if _NAME.fullmatch(text) else f"sha256-{hashlib.sha256(text.encode(errors='replace')).hexdigest()}"


async def listing(reader: Reader) -> Sequence[DeadLetter]:
    """Return every dead letter, the oldest first."""
    columns = [column for column in dead_letters.c if column.name != "body"]
    return [DeadLetter(**row._mapping) for row in await reader.rows(select(*columns).order_by(dead_letters.c.number))]


async def retry(unit: Unit, numbers: Collection[int] | None = None) -> int:
    """Put letters (default: all) back as fresh deliveries and return how many; raise `UnknownLetter` before any."""
    query = select(dead_letters).order_by(dead_letters.c.number)
    if numbers is not None:
        query = query.where(dead_letters.c.number.in_(numbers))
    letters = await unit.rows(query)
    if missing := set(numbers or ()) - {letter.number for letter in letters}:
        raise UnknownLetter(missing)
    put_back = [letter.number for letter in letters if await _deliver(unit, letter)]
    if put_back:
        await unit.execute(delete(dead_letters).where(dead_letters.c.number.in_(put_back)))
    return len(put_back)


async def _deliver(unit: Unit, letter: Row[Any]) -> bool:
    # A letter whose like still waits as a delivery stays: the two may differ in their bodies.
    now, copied = unit.clock.now(), {name: letter._mapping[name] for name in _COPIED}
    if copied["consumer"] == UNROUTED:
        del copied["consumer"]
        fresh = insert_once(unit, outbox).values(copied | {"created_at": now})
    else:
        fresh = insert_once(unit, deliveries).values(copied | {"attempts": 0, "not_before": now})
    return bool((await unit.execute(fresh)).rowcount)
