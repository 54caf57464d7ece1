"""Handle what tells of trouble, and what tells that it is over."""

from collections.abc import Sequence

from events.handler import Received
from schemas.event import Event
from schemas.facts import AlertCleared, AlertRaised, HealthChanged, PolicyRestored, PolicyRevoked
from schemas.names import ALERT_EMITTER
from twinlock.store.unit import Unit
from workers.alert_emitter.episodes import Signal, take
from workers.alert_emitter.kinds import ended_by, topic_of

HEARD: tuple[type[Event], ...] = (AlertRaised, AlertCleared, HealthChanged, PolicyRevoked, PolicyRestored)


class Hear:
    """Take one type of event as signals, at the moment that it tells of."""

    consumer = ALERT_EMITTER

    def __init__(self, handles: type[Event]) -> None:
        self.handles = handles

    async def prepare(self, event: Event, received: Received) -> Sequence[Signal]:
        """Return what it raises or ends."""
        at = received.envelope.time
        if isinstance(event, AlertRaised):
            return [Signal(topic_of(event), at, True, event.severity, event.detail)]
        return [Signal(topic, at, False) for topic in ended_by(event)]

    async def commit(self, unit: Unit, plan: Sequence[Signal]) -> None:
        """Fold them into alerts."""
        await take(unit, plan)
