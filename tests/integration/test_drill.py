"""Drills: the sandbox does what the settings say, and nothing real is touched."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.drill.findings import Real
from cli.main import run
from schemas.identifiers import AvailabilityMode, PolicyHealth, PolicyState, Workload
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.custody.policies import Policy

Twinlock = Callable[..., Any]

KEYS = ("--key", "local://left/k", "--key", "local://right/k")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path / "home"))
    # Days of the sandbox take real seconds: hours do as well.
    for name, seconds in (("TIK_TTL", 3600), ("REFRESH_AHEAD", 900), ("REFRESH_JITTER", 60)):
        monkeypatch.setenv(f"TWINLOCK_CUSTODY__{name}", str(seconds))
    return tmp_path / "home"


@pytest.fixture
def twinlock(home: Path, capsys: pytest.CaptureFixture[str]) -> Twinlock:
    def _run(*words: str) -> Any:
        assert 0 == run([*words, "--json"]), words
        return json.loads(capsys.readouterr().out)

    _run("init")
    _run("tenant", "add", "acme")
    for uri in KEYS[1::2]:
        _run("key", "create", uri)
    return _run


def digests(home: Path) -> dict[str, str]:
    """Return what every file of a home holds."""
    files = (path for path in home.rglob("*") if path.is_file())
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("drill", "locked_out", "possible"), [("revoke", True, True), ("outage", False, True), ("lose-both", True, False)]
)
def test_nothing_real_is_touched(home: Path, twinlock: Twinlock, drill: str, locked_out: bool, possible: bool) -> None:
    """After a drill each file of the home is byte for byte what it was: the database, the vaults, and all the rest."""
    twinlock("policy", "create", "--tenant", "acme", "--name", "p", "--workload", "mailbox", *KEYS)
    twinlock("mailbox", "add", "ann@acme.example", "--tenant", "acme")
    twinlock("policy", "assign", "acme/p", "--all-mailboxes")
    before = digests(home)
    found = twinlock("drill", drill, "acme/p")

    assert before == digests(home)
    assert {"twinlock.db", "secrets/audit.key"} <= before.keys()
    assert any(name.startswith("vaults/left/") for name in before)
    assert (locked_out, False) == (found["users"]["locked_out"], found["service"]["locked_out"])
    assert (1, possible) == (found["containers"], found["recovery"]["possible"])
    if locked_out:
        assert 60 < found["users"]["measured_seconds"] <= found["users"]["at_most_seconds"]
        assert found["recovery"]["measured_seconds"] is not None


def test_sites_go_on_to_their_expiry(twinlock: Twinlock) -> None:
    """Under recovery-only an outage locks everybody out when the TIK expires, and one vault's answer ends that."""
    made = ("--workload", "site", "--geo", "EUR", "--mode", "recovery-only")
    twinlock("policy", "create", "--tenant", "acme", "--name", "s", *made, *KEYS)
    drill = twinlock("drill", "outage", "acme/s")

    for who in ("users", "service"):
        assert drill[who]["locked_out"]
        assert 3600 + 60 == drill[who]["at_most_seconds"]
        assert 3600 <= drill[who]["measured_seconds"] <= 3660 + drill["sandbox"]["step_seconds"]
    assert drill["recovery"]["measured_seconds"] < 600


@pytest.mark.parametrize(
    ("mode", "state", "availability", "approvers", "lacks"),
    [
        ("standard", "active", "present", 2, []),
        ("standard", "active", "present", 1, ["2 approvers whose signatures count; the tenant has 1"]),
        ("none", "active", "absent", 2, ["mode none: no availability key was ever made, so the data is lost"]),
        ("strict", "active", "destroyed", 2, ["its availability key is destroyed, so the data is lost"]),
        ("standard", "revoked", "present", 2, ["the policy is revoked"]),
    ],
)
def test_lacks(mode: str, state: str, availability: str, approvers: int, lacks: list[str]) -> None:
    """What a recovery lacks is named: without an availability key no approver can help."""
    kind, active, healthy = Workload.MAILBOX, PolicyState(state), PolicyHealth.HEALTHY
    policy = Policy("i", "t", "acme", "p", kind, AvailabilityMode(mode), active, healthy, 1, 1)

    assert lacks == list(Real(policy, 1, AvailabilityKeyState(availability), approvers).lacks)
