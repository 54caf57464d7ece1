"""A server process of a test's own, which never outlives the test."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

_UNLENT = range(10_000, 30_000)  # Linux lends from 32768 on
_LIFELINE = Path(__file__).with_name("lifeline.py")


class Process:
    """Hold one running server; its output goes to a file."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        with log.open("ab") as output:
            self._lifeline = subprocess.Popen(
                [sys.executable, "-I", str(_LIFELINE), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=dict(environment),
                start_new_session=True,
            )
        assert self._lifeline.stdout is not None
        with self._lifeline.stdout as first:
            self.group = int(first.readline())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        os.killpg(self.group, number)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait until it has ended, and return its exit code; above 128 it is 256 less the signal."""
        return self._lifeline.wait(seconds)

    def terminate(self, seconds: float = 30.0) -> None:
        """Ask it to end, and wait."""
        os.kill(self.group, signal.SIGTERM)
        self.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it as a crash would, and wait."""
        assert self._lifeline.stdin is not None
        self._lifeline.stdin.close()
        self._lifeline.wait(30.0)

    @property
    def running(self) -> bool:
        """Tell whether it runs."""
        return self._lifeline.poll() is None


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        with closing(one):
            pass
    return ports


def lasting_port() -> int:
    """Return a port that nobody listens on, and that the kernel lends to no outgoing connection meanwhile."""
    while True:
        port = _UNLENT.start + secrets.randbelow(len(_UNLENT))
        with closing(socket.socket()) as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
