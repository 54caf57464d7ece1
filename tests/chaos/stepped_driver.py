"""Run one `twinlock` command on a machine whose wall clock is set wrong, again and again: FILE ARGUMENT...

FILE holds the seconds by which the clock is off now; somebody else writes them.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from cli.entry import main
from twinlock.clock import SystemClock


def step(file: Path) -> None:
    """Have every wall clock of this process go by the file."""

    def now(_clock: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(file.read_text()))

    mock.patch.object(SystemClock, "now", now).start()


if __name__ == "__main__":
    offset, *arguments = sys.argv[1:]
    step(Path(offset))
    main(arguments)
