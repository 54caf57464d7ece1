"""Dead letters come from the broker into the table, and from the table back into the broker.

Both directions repeat after a crash: a letter has a name, by which its second burial is recognised, and what is put
back twice is absorbed by the inbox, or is one letter again.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from sqlalchemy import Row, delete, select

from events.amqp import names, wire
from events.amqp.consuming import Session
from events.amqp.publishing import Parcel
from events.amqp.transport import AmqpTransport
from events.amqp.trouble import BrokerGone
from events.dead_letters import bury, named
from events.inbox import Entry, admit
from events.transport import Message
from events.waiting import unless
from schemas.event import MessageRefused
from schemas.names import COLLECTOR
from twinlock.crashpoints import CrashPoint, reach
from twinlock.store.tables.bus import deliveries
from twinlock.store.unit import Cause, Store

log = logging.getLogger(__name__)

_CARRIED = ("publisher", "source", "id", "type", "correlation", "body")
_MARK = Cause("collector")  # no event leaves under this name
_PREFETCH = 10
_BATCH = 100
_NO_REASON = "unknown: the broker gave it up"


@dataclass(frozen=True, slots=True)
class Letter:
    """Hold one dead letter as it came from the broker."""

    name: str
    message: Message
    attempts: int
    reason: str


class Collector:
    """Move the dead letters of one worker, in that worker's process and under its login."""

    def __init__(self, transport: AmqpTransport, store: Store, worker: str, *, poll: float = 1.0) -> None:
        self._transport = transport
        self._store = store
        self._worker = worker
        self._poll = poll

    async def collect(self) -> None:
        """Take letters into the table until the transport drains; each is acknowledged after its commit."""
        taking = self._transport.take(names.letter_queue(self._worker), _PREFETCH)
        while (taken := await taking.next()) is not None:
            session, delivery = taken
            try:
                await self._kept(session, letter(delivery, self._transport.login))
                reach(CrashPoint.AFTER_BURIAL)
                await session.ack(delivery)
            except BrokerGone as gone:
                log.info("a dead letter is collected again: %s", gone.detail)
            finally:
                await session.settled()

    async def put_back(self) -> None:
        """Publish what the table wants delivered again, until cancelled."""
        while True:
            try:
                await self.put_back_once()
            except Exception as error:  # noqa: BLE001  # the rows stay, and are looked at again
                log.warning("what is to be delivered again can't be sent now: %s", type(error).__name__)
            await self._store.clock.sleep(self._poll)

    async def put_back_once(self) -> int:
        """Publish what is due, delete what was confirmed, and return how much that was."""
        due = (deliveries.c.consumer == self._worker, deliveries.c.not_before <= self._store.clock.now())
        async with self._store.read() as reader:
            rows = await reader.rows(select(deliveries).where(*due).order_by(deliveries.c.number).limit(_BATCH))
        outcomes = await self._transport.outlet.send_all([self._parcel(row) for row in rows])
        sent = [row.number for row, trouble in zip(rows, outcomes, strict=True) if trouble is None]
        if sent:
            reach(CrashPoint.AFTER_PUT_BACK)
            await self._forget(sent)
        return len(sent)

    async def _kept(self, session: Session, found: Letter) -> None:
        while not await self._buried(found):
            await unless(session.over, self._store.clock.sleep(self._poll))
            if session.over.is_set():
                raise BrokerGone("the consumer ended")

    async def _buried(self, found: Letter) -> bool:
        message = found.message
        try:
            async with self._store.begin(Cause(named(message.correlation), named(message.id))) as unit:
                if await admit(unit, _entry(self._worker, found)):
                    await bury(unit, self._worker, message, found.attempts, found.reason)
        except Exception as error:  # noqa: BLE001  # the letter stays in the broker
            log.warning("a dead letter can't be kept now: %s", type(error).__name__)
            return False
        return True

    async def _forget(self, numbers: Sequence[int]) -> None:
        async with self._store.begin(_MARK) as unit:
            await unit.execute(delete(deliveries).where(deliveries.c.number.in_(numbers)))

    def _parcel(self, row: Row[Any]) -> Parcel:
        message = Message(**{name: row._mapping[name] for name in _CARRIED})
        began = f"{row.number}.{row.not_before.isoformat()}"
        headers = {wire.PUBLISHER: row.publisher, wire.ATTEMPT: row.attempts, wire.ROUND: began}
        outgoing = wire.outgoing(message, self._transport.login, headers)
        return Parcel(names.retry_exchange(self._worker), names.NOW, outgoing)


def _entry(worker: str, found: Letter) -> Entry:
    return Entry(COLLECTOR, worker, "letter", found.name, hashlib.sha256(found.message.body).digest())


def letter(delivery: AbstractIncomingMessage, login: str) -> Letter:
    """Read a dead letter. Headers of ours count only where this very login published the copy."""
    own = delivery.user_id == login
    try:
        came = wire.arrived(delivery, believed=own)
        message, attempts = came.message, came.attempts
    except MessageRefused:
        message, attempts = _made_up(delivery, own), wire.history(delivery)[0] if own else 0
    deaths = delivery.headers.get("x-death")
    if own and not deaths and isinstance(name := delivery.headers.get(wire.LETTER), str):
        return Letter(named(name), message, attempts, str(delivery.headers.get(wire.REASON) or _NO_REASON))
    return Letter(_name(delivery, deaths), message, attempts, _reason(deaths))


def _made_up(delivery: AbstractIncomingMessage, own: bool) -> Message:
    found = wire.claimed(delivery)
    login = wire.publisher(delivery, believed=own) or wire.UNKNOWN
    return replace(found, publisher=login, type=named(found.type))


def _name(delivery: AbstractIncomingMessage, deaths: Any) -> str:
    first = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    told = f"{delivery.message_id}\n{first.get('time')}\n{first.get('count')}\n".encode(errors="replace")
    return f"death-{hashlib.sha256(told + delivery.body).hexdigest()}"


def _reason(deaths: Any) -> str:
    first = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    if first.get("reason") == "delivery_limit":
        return "crash-loop: the worker ended again and again while it handled this"
    return f"{_NO_REASON} ({named(str(first['reason']))})" if first.get("reason") else _NO_REASON
