"""The page about purges, typed line by line: all is gone, and the certificate holds where nothing else is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import run
from tests.guides import steps
from tests.integration.test_approvals_guide import execute

GUIDE = Path(__file__).parents[2] / "docs" / "purge.md"
CUSTOMER = """
openssl genpkey -algorithm ed25519 -out ann.key
openssl pkey -in ann.key -pubout -out ann.pub
openssl genpkey -algorithm ed25519 -out bob.key
openssl pkey -in bob.key -pubout -out bob.pub
twinlock init
twinlock tenant add acme
twinlock approver add acme ann --public-key ann.pub
twinlock approver add acme bob --public-key bob.pub
twinlock key create local://left/mail
twinlock key create local://right/mail
twinlock policy create --tenant acme --name main --workload mailbox --key local://left/mail --key local://right/mail
twinlock mailbox add ann@acme.example --tenant acme
twinlock mailbox import ann@acme.example mail
twinlock policy assign acme/main --mailbox ann@acme.example
"""


@pytest.fixture(autouse=True)
def _private() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


def test_law_16_purged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Law 16: every line of the page works; its certificate is valid where no installation is, and for its id alone."""
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TWINLOCK_APPROVALS__COOLING_OFF_SECONDS", "0")
    for name, seconds in (("KEEP_SECONDS", "0"), ("EPOCH_SECONDS", "0.5"), ("CONFIRM_INTERVAL", "0.1")):
        monkeypatch.setenv(f"TWINLOCK_CUSTODY__{name}", seconds)  # how long callers hold keys
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "a.eml").write_bytes(b"Subject: hello\r\n\r\nworld\r\n")
    lines = CUSTOMER.strip().splitlines() + [step.line for step in steps(GUIDE)]
    went = [(line, execute(line, monkeypatch)) for line in lines]
    out, err = capfd.readouterr()

    assert [(line, 0) for line in lines] == went, err
    assert "the certificate is valid" in out
    public = (tmp_path / "home" / "purge-certificate.pub").rename(tmp_path / "certificates.pub")
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path / "elsewhere"))
    checked = ["purge", "certificate", os.environ["PURGE"], "--verify", "certificate.json", "--key"]

    assert 0 == run([*checked, str(public)])
    assert 1 == run([*checked, "ann.pub"])
    assert 1 == run(["purge", "certificate", "another", "--verify", "certificate.json"])
    assert not (tmp_path / "elsewhere").exists()
