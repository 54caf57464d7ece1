"""Traces: what a request set off hangs together, though nothing travels with the events for it."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from aiormq.abc import DeliveredMessage
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from cli import logs
from cli.home import LOG
from cli.settings import load_settings
from cli.wiring import observing
from events.consumer import ConsumerRuntime
from events.context import about, handling, trace_id
from events.embedded import EmbeddedTransport
from events.ladder import Ladder
from events.publisher import Publisher
from events.relay import Relay
from events.transport import Message
from schemas.requests import AssignmentRequested
from twinlock.custody.operations import Operation
from twinlock.store.unit import Cause, new_id
from workers.metrics.instruments import Metrics
from workers.roster import handlers_of, routes_of
from workers.tracing.exporting import Telling
from workers.tracing.spans import PlannedIds, TracedMetrics
from workers.wakeups import reconcile

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

BOX, DONE = "ann@acme.example", "publish twinlock.reencryption.completed"
MESSAGE = Message("operator", "urn:test", new_id(), "twinlock.test.v1", new_id(), b"")


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Return where spans end up."""
    return InMemorySpanExporter()


@pytest.fixture
def traced(spans: InMemorySpanExporter) -> TracedMetrics:
    """Return an observer that traces."""
    provider = TracerProvider(id_generator=PlannedIds(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return TracedMetrics(provider)


@asynccontextmanager
async def working(world: "World", pump: "Pump", traced: TracedMetrics) -> AsyncIterator[None]:
    """Run every worker on the embedded transport."""
    handlers = handlers_of(replace(pump.place, observer=traced))
    transport = EmbeddedTransport(world.store, world.clock, routes_of(handlers))
    runtime = ConsumerRuntime(world.store, transport, handlers, world.clock, Ladder(), observer=traced)
    relay = Relay(world.store, transport, world.clock, observer=traced)
    async with asyncio.TaskGroup() as group:
        group.create_task(runtime.run())
        task = group.create_task(_relaying(relay))
        yield
        await runtime.drain(10.0)
        task.cancel()


async def _relaying(relay: Relay) -> None:
    while True:
        await relay.pass_once()
        await asyncio.sleep(0.02)


def named(spans: Sequence[ReadableSpan], start: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name.startswith(start)]


async def test_one_trace(world: "World", pump: "Pump", traced: TracedMetrics, spans: InMemorySpanExporter) -> None:
    """A request, its handling, the steps and the facts that follow are one trace, named by the correlation."""
    await world.mailbox(BOX, b"mail")
    correlation = new_id()
    await Publisher(world.store).request(AssignmentRequested(policy="policy-p", mailboxes=(BOX,)), correlation)
    async with working(world, pump, traced), asyncio.timeout(30):
        while not named(spans.get_finished_spans(), DONE):
            await reconcile(world.store, "mailbox_reencryptor", 60.0)
            await asyncio.sleep(0.02)

    mine = [span for span in spans.get_finished_spans() if f"{span.context.trace_id:032x}" == correlation]
    (asked,) = named(mine, "publish twinlock.assignment.requested")
    (handled,) = named(mine, "dep_assigner twinlock.assignment.requested")
    assert asked.parent is None
    assert handled.parent is not None
    assert asked.context.span_id == handled.parent.span_id
    assert named(mine, "step mailbox_reencryptor")
    (told,) = named(mine, DONE)
    assert told.parent is not None
    assert told.parent.span_id in {span.context.span_id for span in mine}


def test_vault_calls(traced: TracedMetrics, spans: InMemorySpanExporter) -> None:
    """A call of a vault is below what the custodian was asked, in the trace of the request, and says its outcome."""
    cause = Cause(new_id(), new_id())
    with traced.answering("open-container-key", cause):
        traced.called("local://left", Operation.UNWRAP, "denied", 0.25)

    call, answer = spans.get_finished_spans()
    assert call.parent is not None
    assert (answer.context.span_id, cause.correlation) == (call.parent.span_id, f"{call.context.trace_id:032x}")
    assert "denied" == (call.attributes or {})["twinlock.outcome"]
    assert 0.25e9 == (call.end_time or 0) - (call.start_time or 0)


def test_failures_keep_their_words(traced: TracedMetrics, spans: InMemorySpanExporter) -> None:
    """Of what fails only the class is told: a message may hold anything."""
    with pytest.raises(ValueError, match="a password"), traced.handling("dep_assigner", MESSAGE):
        raise ValueError("a password")

    (span,) = spans.get_finished_spans()
    assert "ValueError" == span.status.description
    assert "a password" not in span.to_json()


@pytest.mark.parametrize("correlation", ["01a21ef3bb33729eb408d4ddb7391340", "of-a-subscriber", "0" * 32])
def test_trace_ids(correlation: str) -> None:
    """Every correlation has a trace id of the W3C's form, its own where it can be."""
    found = trace_id(correlation)

    assert (32, True) == (len(found), int(found, 16) > 0)
    assert (found == correlation) == (len(correlation) == 32 and correlation != "0" * 32)


def test_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker's log can be JSON: a line about a delivery says which, of whom, and in which trace; others do not."""
    logs.configure(tmp_path, to_terminal=True, as_json=True)
    log = logging.getLogger("twinlock.test")
    try:
        with handling("dep_assigner", MESSAGE, 2):
            about(tenant="acme", policy="policy-p")
            log.warning("a line\nof %s", "two")
        log.warning("outside")
        inside, outside = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    finally:
        logs.configure(tmp_path, to_terminal=False)

    assert "a line\nof two" == inside["message"]
    told = {"consumer": "dep_assigner", "event_id": MESSAGE.id, "trace_id": MESSAGE.correlation, "attempts": 2}
    assert told.items() <= inside.items()
    assert {"tenant": "acme", "policy": "policy-p", "level": "warning"}.items() <= inside.items()
    assert {"time", "level", "logger", "message"} == set(outside)


def test_no_message_in_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A message that comes back when its sender has given up stays out of the log: the library would show it whole."""
    logs.configure(tmp_path, to_terminal=True)
    log = logging.getLogger("aiormq.channel")
    try:
        log.error("Unhandled message %r returning", DeliveredMessage(Basic.Return(), ContentHeader(), b"body", Mock()))
        log.error("Consumer callback failed")
    finally:
        logs.configure(tmp_path, to_terminal=False)
    shown = capsys.readouterr().err

    assert "Consumer callback failed" in shown
    assert "Unhandled" not in shown


def test_unwritable_log(tmp_path: Path) -> None:
    """A log that can't be written, as on a read-only file system, fails nothing."""
    (tmp_path / LOG).mkdir()
    logs.configure(tmp_path, to_terminal=False)
    logging.getLogger("twinlock.test").warning("nobody reads this")

    assert [] == list((tmp_path / LOG).iterdir())


def test_lost_traces(caplog: pytest.LogCaptureFixture) -> None:
    """A collector that is away is told once, and once that it is back."""
    results = iter([SpanExportResult.FAILURE] * 3 + [SpanExportResult.SUCCESS] * 2)

    class Exporter(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return next(results)

    telling = Telling(Exporter())
    for _ in range(5):
        telling.export(())

    assert [("lost until" in line, "again" in line) for line in caplog.messages] == [(True, False), (False, True)]


async def test_collector_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process does not wait for a collector that takes nothing: it leaves the last traces behind."""
    hangs = Event()
    monkeypatch.setattr(observing, "_SHUTDOWN_SECONDS", 0.05)
    monkeypatch.setattr(Metrics, "close", lambda _: hangs.wait(60))
    async with asyncio.timeout(30), observing.observed(load_settings(tmp_path)):
        pass

    assert not hangs.is_set()
    hangs.set()
