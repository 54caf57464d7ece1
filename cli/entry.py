"""Where the program begins. Importing the rest takes most of a second: an interrupt must find this in place by then."""

import signal
import sys

INTERRUPTED = 130  # as a shell counts it: 128, and the number of the signal


def main() -> None:
    """Run one command and exit; an interrupt, whenever it comes, shows no traceback."""
    try:
        from cli.main import main as run  # not before an interrupt is caught

        run()
    except KeyboardInterrupt:
        sys.stderr.write("twinlock: interrupted\n")
        sys.exit(INTERRUPTED)
    finally:
        # What the interpreter still does at its end would tell of an interrupt in its own words.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
