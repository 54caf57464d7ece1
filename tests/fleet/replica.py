"""One process of a worker, as a supervisor would start it, with its own login and its own address for health."""

import http.client
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.servers.process import Process, lasting_port

PROGRAM = str(Path(sys.executable).with_name("twinlock"))
DRIVER = str(Path(__file__).parents[1] / "faults" / "crash_driver.py")
AGED = str(Path(__file__).with_name("aged_driver.py"))
TRACER = str(Path(__file__).with_name("tracing_driver.py"))
GATE = str(Path(__file__).with_name("gated_driver.py"))
KILLED = 256 - signal.SIGKILL


def crashing(point: str, number: int) -> tuple[str, ...]:
    """Return the program that kills itself at a crash point at the given time."""
    return sys.executable, DRIVER, "SIGKILL", point, str(number)


def aged(age: str) -> tuple[str, ...]:
    """Return the program as an older or a newer minor version would be it."""
    return sys.executable, AGED, age


def tracing(trace: Path, gate: Path) -> tuple[str, ...]:
    """Return the program that notes every event which it begins to handle, and takes steps only with the gate open."""
    return sys.executable, TRACER, str(trace), str(gate)


def gated(reached: Path, gate: Path) -> tuple[str, ...]:
    """Return the program that pauses at its start, between its look at database and broker and its first work."""
    return sys.executable, GATE, str(reached), str(gate)


class Replica:
    """Hold one running `worker run`, of the program itself or of one that a test puts in its place."""

    def __init__(self, worker: str, log: Path, env: Mapping[str, str], program: Sequence[str] = (PROGRAM,)) -> None:
        self.worker = worker
        self._port = lasting_port()
        self._log = log
        health = ["--health", f"127.0.0.1:{self._port}"]
        self._process = Process([*program, "worker", "run", worker, *health], log, env)

    def __repr__(self) -> str:
        return f"<{self.worker} {self._process.group} ready={self.ready}: {self.said[-1500:]}>"

    @property
    def running(self) -> bool:
        """Tell whether it runs."""
        return self._process.running

    @property
    def said(self) -> str:
        """Return all that it wrote."""
        return self._log.read_text(errors="replace")

    @property
    def ready(self) -> bool:
        """Tell whether it takes work, by its own word."""
        return self.asked("/readyz")[0] == 200

    def asked(self, path: str) -> tuple[int, Any]:
        """Ask for its health; without an answer the status is 0."""
        status, body = self._got(path)
        return status, json.loads(body) if body else None

    def measured(self) -> dict[str, float]:
        """Return the samples of its page of metrics, each under its name with its labels."""
        _status, body = self._got("/metrics")
        lines = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def _got(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.signal(number)

    def ended(self, seconds: float = 60.0) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
