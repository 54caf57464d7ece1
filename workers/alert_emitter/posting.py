"""Handle what is told of an alert: every webhook that wants it gets a delivery of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, delete, select

from events.dead_letters import bury
from events.handler import Received
from events.transport import Message
from schemas.envelope import serialise
from schemas.event import Event
from schemas.facts import AlertChanged
from schemas.names import ALERT_EMITTER
from twinlock.store.distinct import distinct
from twinlock.store.once import insert_once
from twinlock.store.tables.bus import deliveries
from twinlock.store.unit import Cause, Store, Unit, new_id
from workers.alert_emitter.webhooks import Webhook, consumer

CARRIED = ("publisher", "source", "id", "type", "correlation", "body")
_GONE = "the settings name no such webhook any more"
_BATCH = 200
_GRACE = timedelta(
    seconds=600
)  # while processes start anew one by one, some of them know of a webhook and others don't


@dataclass(frozen=True, slots=True)
class _Plan:
    message: Message
    consumers: Sequence[str]


class Post:
    """Put an alert into the queues of webhooks; their senders take it from there."""

    consumer = ALERT_EMITTER
    handles: type[Event] = AlertChanged

    def __init__(self, webhooks: Mapping[str, Webhook]) -> None:
        self._webhooks = webhooks

    async def prepare(self, event: AlertChanged, received: Received) -> _Plan:
        """Find who wants it."""
        said, body = received.envelope, serialise(received.envelope)
        message = Message(received.publisher, said.source, said.id, said.type, said.correlation, body)
        return _Plan(message, [consumer(name) for name, hook in self._webhooks.items() if hook.wants(event)])

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Store the deliveries; a repeat finds them."""
        shared: dict[str, Any] = {name: getattr(plan.message, name) for name in CARRIED}
        shared |= {"attempts": 0, "not_before": unit.clock.now()}
        for name in plan.consumers:
            await unit.execute(insert_once(unit, deliveries).values(consumer=name, **shared))


async def give_up_strangers(store: Store, webhooks: Mapping[str, Webhook]) -> None:
    """Make dead letters of what has waited for a while for a webhook that the settings do not name any more."""
    row = deliveries.c
    known = [consumer(name) for name in webhooks]
    async with store.read() as reader:
        named = [found.value for found in await reader.rows(distinct(row.consumer))]
        strangers = [name for name in named if name.startswith(consumer("")) and name not in known]
        stray = and_(row.consumer.in_(strangers), row.not_before <= store.clock.now() - _GRACE)
        due = select(deliveries).where(stray).order_by(row.consumer, row.not_before)
        if not strangers or await reader.row(due.limit(1)) is None:
            return
    async with store.begin(Cause(new_id())) as unit:
        for found in await unit.rows(due.limit(_BATCH).with_for_update(skip_locked=True)):
            await unit.execute(delete(deliveries).where(row.number == found.number))
            await bury(unit, found.consumer, message_of(found), found.attempts, _GONE)


def message_of(row: Any) -> Message:
    """Return the message of a delivery's row."""
    return Message(**{name: row._mapping[name] for name in CARRIED})
