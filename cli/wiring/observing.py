"""Who hears what a process does: metrics always, traces where the settings name a collector."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from threading import Thread

from cli.settings import Settings
from twinlock.errors import TwinlockError
from workers.metrics.instruments import Metrics
from workers.metrics.page import Page

log = logging.getLogger(__name__)

_SHUTDOWN_SECONDS = 2.0


@asynccontextmanager
async def observed(settings: Settings) -> AsyncIterator[Page]:
    """Return the page of metrics of this process; leaving the block exports what is left of its traces."""
    metrics = _traced(settings) if settings.tracing.endpoint else Metrics()
    try:
        yield Page(metrics)
    finally:
        try:
            async with asyncio.timeout(_SHUTDOWN_SECONDS):
                await _closed(metrics)
        except TimeoutError:
            log.warning("the collector at tracing.endpoint does not take the last traces")


async def _closed(metrics: Metrics) -> None:
    # In a thread that nobody joins: the loop's own would keep the process for as long as the collector hangs.
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        metrics.close()
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(done.set)

    Thread(target=close, daemon=True).start()
    await done.wait()


def _traced(settings: Settings) -> Metrics:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

        from workers.tracing.exporting import Telling
        from workers.tracing.spans import PlannedIds, TracedMetrics
    except ModuleNotFoundError as missing:
        raise TwinlockError(
            f"tracing.endpoint needs {missing.name}, which is not installed",
            hint="install it with: pip install 'twinlock[tracing]'",
        ) from None
    # By the trace's own number, which every process knows: all of a trace is kept, or nothing.
    provider = TracerProvider(
        sampler=TraceIdRatioBased(settings.tracing.ratio),
        id_generator=PlannedIds(),
        resource=Resource.create({"service.name": "twinlock"}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.tracing.endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(Telling(exporter)))
    return TracedMetrics(provider)
