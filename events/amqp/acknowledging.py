"""Acknowledging on one channel: what is settled at the same moment takes one frame where the order allows it.

A frame that means "all up to this one" is only sent when every delivery up to there is settled: it would lose the rest.
"""

from collections import deque
from collections.abc import Sequence

from aio_pika.abc import AbstractIncomingMessage

from events.amqp.trouble import bounded
from twinlock.together import Together

_MOST = 1000


class Acknowledging:
    """Know which deliveries of a channel are unsettled, in the order in which they came."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._unsettled: deque[int] = deque()
        self._together: Together[AbstractIncomingMessage, None] = Together(self._batch, _MOST, 1)

    def came(self, delivery: AbstractIncomingMessage) -> None:
        """Remember a delivery."""
        self._unsettled.append(delivery.delivery_tag or 0)

    async def __call__(self, delivery: AbstractIncomingMessage) -> None:
        """Acknowledge one delivery; raise a `BrokerGone` where that is not sure."""
        await self._together(delivery)

    async def _batch(self, deliveries: Sequence[AbstractIncomingMessage]) -> Sequence[None]:
        settled = {delivery.delivery_tag or 0: delivery for delivery in deliveries}
        last = None
        while self._unsettled and (first := settled.pop(self._unsettled[0], None)) is not None:
            last = first
            self._unsettled.popleft()
        if last is not None:
            await bounded(last.ack(multiple=True), self._seconds)
        for tag, delivery in settled.items():
            if tag in self._unsettled:  # it is not where a cancelled batch had sent its frame
                self._unsettled.remove(tag)
                await bounded(delivery.ack(), self._seconds)
        return [None] * len(deliveries)
