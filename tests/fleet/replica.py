"""One process of a worker, as a supervisor would start it, with its own login and its own address for health."""

import http.client
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers.process import Process, free_ports

PROGRAM = str(Path(sys.executable).with_name("twinlock"))
DRIVER = str(Path(__file__).parents[1] / "faults" / "crash_driver.py")
KILLED = 256 - signal.SIGKILL


class Replica:
    """Hold one running `worker run`; given a crash point, it kills itself there at the given time."""

    def __init__(self, worker: str, log: Path, env: Mapping[str, str], crash: tuple[str, int] | None = None) -> None:
        self.worker = worker
        (self._port,) = free_ports(1)
        self._log = log
        driver = [PROGRAM] if crash is None else [sys.executable, DRIVER, "SIGKILL", crash[0], str(crash[1])]
        health = ["--health", f"127.0.0.1:{self._port}"]
        self._process = Process([*driver, "worker", "run", worker, *health], log, env)

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
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            return 0, None
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
