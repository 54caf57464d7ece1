"""Spans that find each other without anything that travels: their numbers follow from the events' own names.

A trace is a correlation. Every event that was published is a span, below the event that caused it; every handling of
it is a span below that, and calls of vaults are below the handling. Of an exception only its class is told: its message
may hold anything.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from time import time_ns

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from events.context import trace_id
from events.transport import Message
from schemas.envelope import parse
from schemas.event import MessageRefused
from twinlock.custody.operations import Operation
from twinlock.store.unit import Cause
from workers.metrics.instruments import Metrics

_SCOPE = "twinlock"
_planned: ContextVar[tuple[int, int] | None] = ContextVar("twinlock_planned_span", default=None)


class PlannedIds(RandomIdGenerator):
    """Give spans the numbers that everybody can tell beforehand, and a random one where there is none."""

    def generate_trace_id(self) -> int:
        """Return the number of the next trace."""
        planned = _planned.get()
        return planned[0] if planned else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the number of the next span."""
        planned = _planned.get()
        return planned[1] if planned else super().generate_span_id()


class TracedMetrics(Metrics):
    """Trace what is measured; `provider` has to use `PlannedIds`."""

    def __init__(self, provider: TracerProvider) -> None:
        super().__init__()
        self._provider = provider
        self._tracer = provider.get_tracer(_SCOPE)

    @contextmanager
    def handling(self, consumer: str, message: Message) -> Iterator[None]:
        """Trace the handling of a delivery, below its event."""
        attributes = {
            "messaging.system": "twinlock",
            "messaging.operation.type": "process",
            "messaging.destination.name": consumer,
            "messaging.message.id": message.id,
        }
        with self._tracer.start_as_current_span(
            f"{consumer} {message.type}",
            context=_below(message.correlation, message.id),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    @contextmanager
    def stepping(self, worker: str, cause: Cause) -> Iterator[None]:
        """Trace the slow part of a step in the trace of its job, whichever wake-up set it off."""
        wake_up = trace.get_current_span().get_span_context()
        with _numbered(cause.correlation, cause.causation or cause.correlation):
            span = self._tracer.start_span(f"step {worker}", context=Context(), links=[Link(wake_up)])
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield

    @contextmanager
    def answering(self, operation: str, cause: Cause) -> Iterator[None]:
        """Trace a call of the custodian, below the event for which it was made."""
        parent = _below(cause.correlation, cause.causation or cause.correlation)
        with self._tracer.start_as_current_span(
            f"custodian {operation}",
            context=parent,
            kind=SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield

    def published(self, taken: Sequence[Message], left: int) -> None:
        """Trace events that are on their way now."""
        super().published(taken, left)
        for message in taken:
            self._trace(message)

    def called(self, vault: str, operation: Operation, outcome: str, seconds: float) -> None:
        """Trace a call of a vault, below whatever made it."""
        super().called(vault, operation, outcome, seconds)
        end = time_ns()
        span = self._tracer.start_span(
            f"vault {operation.value}",
            kind=SpanKind.CLIENT,
            attributes={"server.address": vault, "twinlock.outcome": outcome},
            start_time=end - round(seconds * 1e9),
        )
        span.end(end)

    def close(self) -> None:
        """Export what is left; the library bounds how long that takes."""
        self._provider.shutdown()

    def _trace(self, message: Message) -> None:
        try:
            envelope, _event = message.parsed or parse(message.body)
        except MessageRefused:
            return
        above = envelope.causationid
        with _numbered(message.correlation, message.id):
            span = self._tracer.start_span(
                f"publish {message.type}",
                context=_below(message.correlation, above) if above else Context(),
                kind=SpanKind.PRODUCER,
                attributes={"messaging.system": "twinlock", "messaging.message.id": message.id},
            )
        span.end()


@contextmanager
def _numbered(correlation: str, event_id: str) -> Iterator[None]:
    token = _planned.set((int(trace_id(correlation), 16), _span_id(event_id)))
    try:
        yield
    finally:
        _planned.reset(token)


def _span_id(event_id: str) -> int:
    return int.from_bytes(sha256(b"span " + event_id.encode()).digest()[:8], "big") or 1


def _below(correlation: str, event_id: str) -> Context:
    number = int(trace_id(correlation), 16)
    context = SpanContext(number, _span_id(event_id), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
