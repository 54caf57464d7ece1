"""Where the program begins. Importing the rest takes most of a second: an interrupt must find this in place by then."""

import gc
import signal
import sys
from collections.abc import Callable

INTERRUPTED = 130  # as a shell counts it: 128, and the number of the signal


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit; an interrupt, whenever it comes, shows no traceback."""
    try:
        _start()(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("twinlock: interrupted\n")
        sys.exit(INTERRUPTED)
    finally:
        # What the interpreter still does at its end would tell of an interrupt in its own words.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _start() -> Callable[[list[str] | None], None]:
    """Import the program. What that makes stays to the end: looking for garbage among it takes as long as the rest."""
    gc.disable()
    from cli.main import main as run  # not before an interrupt is caught

    gc.freeze()
    gc.enable()
    return run
