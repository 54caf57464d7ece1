"""The guide's commands do what the guide says."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import run

ROOT = Path(__file__).parents[2]
EXPECTED = re.compile(r"  # exit code (\d)$")
PLACE = 4  # commands that make the place to try in: the test is in one


@pytest.fixture(autouse=True)
def _private() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


def commands() -> list[tuple[str, int]]:
    """Return the guide's commands with their exit codes."""
    guide = (ROOT / "docs" / "getting-started.md").read_text()
    lines = [line.removeprefix("    ") for line in guide.splitlines() if line.startswith("    ")]
    found = [(EXPECTED.sub("", line), EXPECTED.search(line)) for line in lines[PLACE:]]
    return [(line, int(expected[1]) if expected else 0) for line, expected in found]


def execute(line: str) -> int:
    """Run a command in this process, or in a shell where it is not ours alone."""
    words = shlex.split(os.path.expandvars(line))
    if words[0] == "twinlock":
        return run(words[1:])
    return subprocess.run(["bash", "-c", line], check=False).returncode


def test_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Every command of the guide, typed in its order, ends with the exit code that it names, and shows what it says."""
    monkeypatch.setenv("SAMPLES", str(ROOT / "cli" / "demo" / "samples"))
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    went = [(line, execute(line)) for line, _ in commands()]
    out, err = capfd.readouterr()

    assert commands() == went, err
    assert len(went) > 30
    assert "objects by key version  1: 33\n" in out
    assert "\nidentical\n" in out
    assert "\nsame files\n" in out
    assert "\nFrom" in out
    assert "is revoked" in err
    assert "Traceback" not in err
