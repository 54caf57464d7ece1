"""How a request ended: written once by its handler, read by whoever waits, told to its publisher."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from events.handler import Asked
from schemas.facts import RequestAnswered
from schemas.identifiers import RequestOutcome
from twinlock.store.tables.work import requests
from twinlock.store.unit import Reader, Unit

_DETAIL = "detail"


@dataclass(frozen=True, slots=True)
class Answer:
    """Describe how far a request is; without an outcome nobody has answered it yet."""

    type: str
    correlation: str
    outcome: RequestOutcome | None
    detail: str
    answer: Mapping[str, Any]
    received_at: datetime
    finished_at: datetime | None


async def answer(
    unit: Unit,
    asked: Asked,
    outcome: RequestOutcome,
    answer: Mapping[str, Any],
    detail: str,
    event_id: str | None = None,
) -> None:
    """Write the outcome and tell the publisher; the first answer stands. `event_id`: default `answer_id`."""
    same = (requests.c.source == asked.source, requests.c.id == asked.id)
    values = {"outcome": outcome.value, "answer": {**answer, _DETAIL: detail}, "finished_at": unit.clock.now()}
    ending = update(requests).where(*same, requests.c.outcome.is_(None)).values(values)
    written = (await unit.execute(ending.returning(requests.c.publisher))).first()
    if written is None and await unit.row(select(requests.c.id).where(*same)) is not None:
        return
    told = RequestAnswered(
        request=asked.id,
        request_source=asked.source,
        request_type=asked.type,
        outcome=outcome,
        detail=detail,
        publisher=written.publisher if written is not None else None,
    )
    unit.emit(told, event_id=event_id or answer_id(asked.source, asked.id))


def answer_id(source: str, request_id: str) -> str:
    """Derive the id of the answer's event, so that a repeat is the same event."""
    named = f"{source}\n{request_id}".encode()
    return f"answer-{hashlib.sha256(named).hexdigest()}"


def refusal_id(publisher: str, source: str, request_id: str) -> str:
    """Derive the id of the answer to what is rejected: whoever tells it, the transport too, tells the same event.

    Not `answer_id`: a stranger may have taken the id of somebody else's request.
    """
    named = f"refused\n{publisher}\n{source}\n{request_id}".encode(errors="replace")
    return f"answer-{hashlib.sha256(named).hexdigest()}"


async def read_answer(reader: Reader, source: str, request_id: str) -> Answer | None:
    """Return how far a request is, or none where it is not known."""
    row = await reader.row(select(requests).where(requests.c.source == source, requests.c.id == request_id))
    if row is None:
        return None
    answer = dict(row.answer)
    return Answer(
        type=row.type,
        correlation=row.correlation,
        outcome=RequestOutcome(row.outcome) if row.outcome is not None else None,
        detail=answer.pop(_DETAIL, ""),
        answer=answer,
        received_at=row.received_at,
        finished_at=row.finished_at,
    )
