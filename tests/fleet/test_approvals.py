"""Approvals in a fleet: a command tells nothing itself, a custodian does, and what is signed is carried out."""

import subprocess
from pathlib import Path

from tests.fleet.installation import Fleet

UNTOLD = """
SELECT (SELECT count(*) FROM approval_steps WHERE NOT announced)
     + (SELECT count(*) FROM approver_changes WHERE NOT announced)
"""


def test_law_16_fleet(fleet: Fleet, tmp_path: Path) -> None:
    """Law 16: in a fleet as well two people sign, and custodians tell every step of it."""
    fleet.ask("tenant", "add", "signers")
    for name in ("ann", "bob"):
        private, public = tmp_path / f"{name}.key", tmp_path / f"{name}.pub"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
        fleet.ask("approver", "add", "signers", name, "--public-key", str(public))
    asked = fleet.ask("approver", "remove", "signers", "ann")
    signed = fleet.ask("approval", "approve", asked["id"], "--by", "bob", "--private-key", str(tmp_path / "bob.key"))
    ended = fleet.ask("approval", "cancel", asked["id"])
    fleet.until(lambda: 0 == fleet.value(UNTOLD))

    assert ("open", 1, "cancelled") == (signed["state"], signed["approvals"], ended["state"])
    assert 3 == fleet.value("SELECT count(*) FROM approval_steps WHERE announced")
    fleet.quiet()
