"""Run one `twinlock` command that pauses when it has seen that database and broker are there: REACHED GATE ARGUMENT...

It then makes the file REACHED, and goes on when there is the file GATE.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from cli.entry import main


def gate(reached: Path, opened: Path) -> None:
    """Put the gate behind the wait for both."""
    from cli import starting  # which needs the program to be loaded

    wait = starting.until_reached

    async def gated(*given: Any) -> None:
        await wait(*given)
        reached.touch()  # noqa: ASYNC240  # nothing else runs yet
        while not opened.exists():  # noqa: ASYNC110, ASYNC240  # the test opens it
            await asyncio.sleep(0.01)

    mock.patch.object(starting, "until_reached", gated).start()


if __name__ == "__main__":
    reached_file, gate_file, *arguments = sys.argv[1:]
    gate(Path(reached_file), Path(gate_file))
    main(arguments)
