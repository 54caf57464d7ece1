"""The servers that tests bring along end with the tests, however these end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.servers import rabbitmq
from tests.servers.rabbitmq import RabbitNode, ServerMissing

_OWNER = """
import sys, pathlib
from tests.servers.process import Process
held = Process(["/bin/sh", "-c", "sleep 600 & sleep 600"], pathlib.Path(sys.argv[1]), {"PATH": "/usr/bin:/bin"})
print(held.group, flush=True)
sys.stdin.read()
"""


def test_death_of_the_owner(tmp_path: Path) -> None:
    """A server does not outlive a test process that is killed."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with owner:
        assert owner.stdout is not None
        group = int(owner.stdout.readline())
        server = psutil.Process(group)
        members = [server, *server.children()]
        os.kill(owner.pid, signal.SIGKILL)
    _gone, alive = psutil.wait_procs(members, timeout=30)

    assert [] == [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where RabbitMQ is not installed the package is named, and nothing is skipped."""
    monkeypatch.setattr(rabbitmq, "_PLACES", ())
    monkeypatch.setattr("shutil.which", lambda _program: None)
    with pytest.raises(ServerMissing, match="rabbitmq-server"):
        RabbitNode(tmp_path)
