"""The guide to approvals does what it says, with OpenSSL as the program that signs elsewhere."""

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import run

GUIDE = Path(__file__).parents[2] / "docs" / "approvals.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CUSTOMER = """
twinlock init
twinlock tenant add acme
twinlock key create local://left/a
twinlock key create local://right/b
twinlock policy create --tenant acme --name main --workload mailbox --key local://left/a --key local://right/b
"""


@pytest.fixture(autouse=True)
def _private() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


def execute(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a line: ours in this process, what sets a variable for the lines after it, and the rest in a shell."""
    command, _, target = line.partition(" > ")
    command = command.removesuffix(" || true")
    if command.startswith("twinlock "):
        with contextlib.ExitStack() as stack:
            if target:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(target).open("w"))))
            return run(shlex.split(os.path.expandvars(command))[1:])
    if found := re.match("([A-Z]+)=", line):
        shown = subprocess.run(["bash", "-c", f"{line}; echo ${found[1]}"], capture_output=True, text=True, check=True)
        monkeypatch.setenv(found[1], shown.stdout.strip())
        return 0
    return subprocess.run(["bash", "-c", line], check=False).returncode


def test_law_16_signed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Law 16: every command of the guide works: a key that was never in the program's hands signs, and it counts."""
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    lines = (CUSTOMER.strip() + "\n" + "".join(BLOCK.findall(GUIDE.read_text()))).splitlines()
    went = [(line, execute(line, monkeypatch)) for line in lines]
    out, err = capfd.readouterr()

    assert [(line, 0) for line in lines] == went, err
    assert "has 1 of 2 signatures" in out
    assert "\ntwinlock.approval.restore-policy.v1\n{\n" in out
    assert re.search(r"^state +active$", out[out.index("is done") :], re.MULTILINE)
    (ann,) = re.findall(r"^ann +([0-9a-f]{64})", out, re.MULTILINE)

    assert f"\n{ann}  -\n" in out
