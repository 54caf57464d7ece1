"""Run one `twinlock` command as another minor version would: older|newer ARGUMENT...

The older one knows the types, and writes the members, that were frozen in `tests/golden`. The newer one writes a member
more into every event.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cli.entry import main
from schemas import envelope
from schemas.envelope import Envelope, enclose
from schemas.event import Event
from schemas.registry import EVENTS
from twinlock.store import unit

FROZEN = Path(__file__).parents[1] / "golden" / "0.1" / "schemas.json"


def be_older() -> None:
    """Forget whatever was not frozen."""
    known = json.loads(FROZEN.read_text(encoding="utf-8"))

    def aged(event: Event, **attributes: Any) -> Envelope:
        told = enclose(event, **attributes)
        members = known[event.type]["properties"]
        return told.model_copy(update={"data": {name: told.data[name] for name in told.data if name in members}})

    vars(envelope)["EVENTS"] = {name: model for name, model in EVENTS.items() if name in known}
    vars(unit)["enclose"] = aged


def be_newer() -> None:
    """Say more than anybody here knows."""

    def advanced(event: Event, **attributes: Any) -> Envelope:
        told = enclose(event, **attributes)
        return told.model_copy(update={"data": {**told.data, "shade": {"of": "blue"}}})

    vars(unit)["enclose"] = advanced


if __name__ == "__main__":
    age, *arguments = sys.argv[1:]
    {"older": be_older, "newer": be_newer}[age]()
    main(arguments)
