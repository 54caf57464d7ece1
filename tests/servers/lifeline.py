"""Run a server for as long as the one who asked for it lives: `python lifeline.py COMMAND...`.

The server has its own process group, whose number is the first line written. When standard input ends, because the
test closed it or died in whatever way, the group is killed. So is it when the server itself ends: nothing stays.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys


def main(command: list[str]) -> int:
    # Signals for the terminal's group are the test's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()
    ended = os.pidfd_open(server.pid)
    select.select([sys.stdin, ended], [], [])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
