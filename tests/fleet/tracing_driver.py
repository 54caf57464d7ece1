"""Run one `twinlock` command whose handlers note what they begin: TRACE GATE ARGUMENT...

Each event's id goes to the file TRACE before anything is prepared for it. The step of a wake-up then waits for the
file GATE.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.entry import main
from events.handler import Handler, Received
from schemas.event import Event
from schemas.facts import ReencryptionWoken
from twinlock.store.unit import Unit
from workers import roster
from workers.roster import Duties, Workplace


class Traced:
    """Hand everything to a handler, and note what it begins."""

    def __init__(self, handler: Handler[Any, Any], trace: Path, gate: Path) -> None:
        self.consumer, self.handles = handler.consumer, handler.handles
        self._handler = handler
        self._trace = trace
        self._gate = gate

    async def prepare(self, event: Event, received: Received) -> Any:
        """Note the event, and prepare when the gate is open."""
        with self._trace.open("a") as trace:
            trace.write(f"{received.envelope.id}\n")
        while isinstance(event, ReencryptionWoken) and not self._gate.exists():  # noqa: ASYNC110  # the test opens it
            await asyncio.sleep(0.01)
        return await self._handler.prepare(event, received)

    async def commit(self, unit: Unit, plan: Any) -> None:
        """Commit."""
        await self._handler.commit(unit, plan)


def trace_all(trace: Path, gate: Path) -> None:
    """Put a tracer before every handler of every worker."""

    def traced(duties: Duties) -> Duties:
        def handlers(place: Workplace) -> Sequence[Traced]:
            return [Traced(each, trace, gate) for each in duties.handlers(place)]

        return replace(duties, handlers=handlers)

    roster.ROSTER = {name: traced(duties) for name, duties in roster.ROSTER.items()}


if __name__ == "__main__":
    trace_file, gate_file, *arguments = sys.argv[1:]
    trace_all(Path(trace_file), Path(gate_file))
    main(arguments)
