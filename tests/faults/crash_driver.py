"""Run one `twinlock` command that kills or stops its own process: SIGNAL POINT NUMBER ARGUMENT...

With SIGKILL it dies at the NUMBER-th time that the crash point is reached: nothing is flushed, closed or rolled back.
With SIGSTOP it stands still until SIGCONT, from the next commit after that on: at that point alone no task of the
process can be inside a transaction, which would keep every other process waiting.
"""

import os
import signal
import sys
from itertools import count

from cli.entry import main
from twinlock.crashpoints import CrashPoint, arm


class Signals:
    """Send this process one signal, at the given time that `reached` is called or when `committed` is after it."""

    def __init__(self, sign: signal.Signals, number: int) -> None:
        self._sign = sign
        self._number = number
        self._times = count(1)
        self._due = False

    def reached(self) -> None:
        """Count; kill at once."""
        self._due |= next(self._times) == self._number
        if self._sign is signal.SIGKILL:
            self._send()

    def committed(self) -> None:
        """Stop, once it is time."""
        self._send()

    def _send(self) -> None:
        if self._due:
            self._due = False
            os.kill(os.getpid(), self._sign)


if __name__ == "__main__":
    name, point, number, *arguments = sys.argv[1:]
    signals = Signals(signal.Signals[name], int(number))
    arm(CrashPoint.AFTER_COMMIT, signals.committed)
    arm(CrashPoint(point), signals.reached)
    main(arguments)
