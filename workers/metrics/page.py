"""The page that Prometheus reads: what was counted, and what stands at this moment, looked up for the page."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client.exposition import choose_encoder

from workers.metrics.instruments import Metrics

log = logging.getLogger(__name__)

Look = Callable[[], Awaitable[None]]  # sets its gauges
LOOK_SECONDS = 2.0  # of each: Prometheus waits ten for a page


@dataclass(slots=True)
class Page:
    """Hold the metrics of a process, and the looks that complete them."""

    metrics: Metrics = field(default_factory=Metrics)
    looks: Mapping[str, Look] = field(default_factory=dict)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type; what could not be looked up is missing, and counted."""
        async with asyncio.TaskGroup() as group:
            for name, look in self.looks.items():
                group.create_task(self._look(name, look))
        encode, content_type = choose_encoder(accept)
        return encode(self.metrics.registry), content_type

    async def _look(self, name: str, look: Look) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await look()
        except Exception as error:  # noqa: BLE001  # a page without a part is worth more than none
            log.debug("%s can't be measured now: %s", name, type(error).__name__)
            self.metrics.look_failed(name)
