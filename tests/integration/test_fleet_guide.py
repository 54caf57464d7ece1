"""The guide for running a fleet by hand does what it says, at real servers."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.presence import LISTENERS
from tests.servers.process import Process, free_ports

if TYPE_CHECKING:
    from tests.servers.postgres import Postgres
    from tests.servers.rabbitmq import RabbitNode, Vhost

pytestmark = pytest.mark.servers

GUIDE = Path(__file__).parents[2] / "docs" / "fleet.md"
DATABASE = "fleet_guide"
SECONDS = 240.0  # a dozen commands and seven workers, on a machine that has other things to do


def commands(replaced: dict[str, str]) -> list[str]:
    """Return the guide's commands by hand, in their order, with the names of this place."""
    _, _, text = GUIDE.read_text().partition("\n## By hand\n")
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    return [line.removeprefix("    ") for line in text.splitlines() if line.startswith("    ")]


def typed(line: str) -> str:
    """Return a command as somebody with many terminals and some patience types it."""
    if "worker run" in line:
        return f"{line} &"
    return f"until {line}; do sleep 0.2; done" if "worker check" in line else line


def execute(lines: list[str], log: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run lines in one shell, which ends with whatever it started."""
    shell = Process(["bash", "-ec", "\n".join(map(typed, lines))], log, environment)
    try:
        return shell.wait(SECONDS), log.read_text()
    finally:
        shell.kill()


def test_by_hand(rabbit: "RabbitNode", vhost: "Vhost", postgres: "Postgres", tmp_path: Path) -> None:
    """Who types the guide from top to bottom has a fleet at work, whose every worker answers."""
    ports = free_ports(7)
    lines = commands(
        {
            "--host mq.example:5671 --tls": f"--host 127.0.0.1:{rabbit.port} --vhost {vhost.name}",
            "--host db.example --tls": f"--host 127.0.0.1:{postgres.port} --name {DATABASE}",
            "postgresql+asyncpg://twinlock:PASSWORD@db.example/twinlock": postgres.create(DATABASE),
            "/etc/twinlock": str(tmp_path / "etc"),
            "/srv/twinlock": str(tmp_path / "srv"),
            "/var/lib/twinlock": str(tmp_path / "home"),
            **{f"0.0.0.0:{8080 + number}": f"127.0.0.1:{port}" for number, port in enumerate(ports)},
        }
    )
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    load, roles = (lines.index(line) for line in lines if line.startswith(("rabbitmqctl ", "psql ")))
    try:
        made = execute([*lines[:load], *lines[load + 1 : roles]], tmp_path / "logins.log", environment)
        rabbit.ctl(*lines[load].split()[1:])
        postgres.load(Path(lines[roles].split()[-1]).read_text(), DATABASE)
        code, said = execute(lines[roles + 1 :], tmp_path / "fleet.log", environment)
    finally:
        postgres.drop(DATABASE)

    assert 0 == made[0], made
    assert 0 == code, said
    assert "moved ann@contoso.example" in said
    assert ", ".join(f"{worker}: 1" for worker in LISTENERS) in said
    assert "Traceback" not in said
