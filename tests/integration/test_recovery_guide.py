"""The runbook of a recovery, typed line by line: what was lost is readable, and old keys open nothing."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import run
from tests.guides import steps
from tests.integration.test_approvals_guide import execute

GUIDE = Path(__file__).parents[2] / "docs" / "recovery.md"
CUSTOMER = """
twinlock init
twinlock tenant add acme
twinlock key create local://left/mail
twinlock key create local://right/mail
twinlock key create local://left/files
twinlock key create local://right/files
twinlock policy create --tenant acme --name main --workload mailbox --key local://left/mail --key local://right/mail
twinlock policy create --tenant acme --name files --workload site --geo EUR --key local://left/files --key local://right/files
twinlock mailbox add ann@acme.example --tenant acme
twinlock mailbox import ann@acme.example mail
twinlock policy assign acme/main --mailbox ann@acme.example
twinlock site add plans --tenant acme --geo EUR
twinlock site import acme/plans tree
twinlock policy assign acme/files --geo EUR
"""
MAIL, FILE = b"Subject: hello\r\n\r\nworld\r\n", b"a plan"


@pytest.fixture(autouse=True)
def _private() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


def test_law_16_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Law 16: both workloads are lost and come back by the runbook; old root keys, enabled again, serve nobody."""
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for folder, name, body in (("mail", "a.eml", MAIL), ("tree", "one.txt", FILE)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(body)
    lines = CUSTOMER.strip().splitlines() + [step.line for step in steps(GUIDE)]
    went = [(line, execute(line, monkeypatch)) for line in lines]
    out, err = capfd.readouterr()

    failed = {line for line, code in went if code}
    assert {line for line in lines if line.endswith("|| true")} == failed, err
    assert "the customer denied the use of the root keys" in err
    assert [MAIL] == [path.read_bytes() for path in (tmp_path / "after").iterdir()]
    assert FILE == (tmp_path / "plans" / "one.txt").read_bytes()
    assert re.search(r"^state +registered$", out, re.MULTILINE)
    assert re.search(r"^trouble +-$", out, re.MULTILINE)
    for key in ("local://north/mail", "local://south/mail", "local://north/files", "local://south/files"):
        assert 0 == run(["key", "disable", key])
    for key in ("local://left/mail", "local://right/mail", "local://left/files", "local://right/files"):
        assert 0 == run(["key", "restore", key])
    assert 1 == run(["mailbox", "export", "ann@acme.example", "again"])
    assert 1 == run(["site", "export", "acme/plans", "more"])
