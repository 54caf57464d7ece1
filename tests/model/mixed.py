"""An embedded line that delivers in another order than things were told, and again what was handled long ago."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from random import Random
from typing import Any

from events.embedded import EmbeddedTransport
from events.transport import Message, Transport
from tests.integration.one_process.lines import EmbeddedLine
from tests.model.effects import note_told
from twinlock.store.once import insert_once
from twinlock.store.tables.bus import deliveries
from twinlock.store.unit import Cause, Store, Unit
from workers.roster import Handlers, routes_of
from workers.runtime import Loop

_DELAYS = (0.0, 0.0, 0.0, 4.0, 8.0)  # seconds of the clock
_KEPT = 60  # messages


class MixedTransport(EmbeddedTransport):
    """Put some deliveries off, so that later ones overtake them, and keep what can be delivered again."""

    def __init__(self, line: "MixedLine", store: Store, handlers: Handlers) -> None:
        super().__init__(store, store.clock, routes_of(handlers))
        self._line = line
        line.routes = routes_of(handlers)

    async def publish_within(self, unit: Unit, messages: Sequence[Message]) -> Callable[[], None]:
        """Write the deliveries; once they mix, none is handed over past the table: a taker asks for no time then."""
        await note_told(unit, messages)
        announce = await super().publish_within(unit, messages)
        return (lambda: None) if self._line.mixes else announce

    def _rows(self, message: Message) -> list[dict[str, Any]]:
        rows = [row | {"not_before": self._line.later(row["not_before"])} for row in super()._rows(message)]
        self._line.told = [*self._line.told, *rows][-_KEPT:]
        return rows


class MixedLine(EmbeddedLine):
    """Carry events in the database; once it `mixes`, in an order that `order` draws."""

    def __init__(self, order: Random) -> None:
        self.told: list[dict[str, Any]] = []
        self.mixes = False
        self.routes: Mapping[str, Sequence[str]] = {}
        self._order = order

    def transport(self, stack: AsyncExitStack, store: Store, handlers: Handlers) -> tuple[Transport, Sequence[Loop]]:
        """Open the transport."""
        return MixedTransport(self, store, handlers), ()

    def later(self, moment: Any) -> Any:
        """Return when something told at a moment is delivered."""
        return moment + timedelta(seconds=self._order.choice(_DELAYS) if self.mixes else 0.0)

    async def repeat(self, store: Store, count: int) -> None:
        """Deliver again what was told before, past the transport, which would see that it was handled."""
        chosen = self._order.sample(self.told, min(count, len(self.told)))
        async with store.begin(Cause("again")) as unit:
            for row in chosen:
                again = row | {"attempts": 0, "not_before": self.later(unit.clock.now())}
                await unit.execute(insert_once(unit, deliveries).values(again))
