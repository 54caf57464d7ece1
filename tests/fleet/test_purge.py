"""A purge in a fleet: a worker is killed beside the last key, and another one ends and certifies it."""

from pathlib import Path

from schemas.names import RECOVERY_HANDLER
from tests.fleet.installation import Fleet, mail_in
from twinlock.crashpoints import CrashPoint
from twinlock.keys.signing import SigningKey, public_to_pem

ADDRESS = "gone@leavers.example"
ROOTS = ("local://left/gone", "local://right/gone")
WHY = ("--reason", "the contract has ended", "--contact", "dpo@leavers.example")

UNHELD = {  # nobody waits for those who may hold keys
    "TWINLOCK_CUSTODY__KEEP_SECONDS": "0",
    "TWINLOCK_CUSTODY__EPOCH_SECONDS": "1",
    "TWINLOCK_CUSTODY__CONFIRM_INTERVAL": "0.2",
}


def leaving(fleet: Fleet, folder: Path) -> list[list[str]]:
    """Make a tenant with a mailbox under a policy whose keys are denied; return how its two approvers sign."""
    mail_in(folder / "mail", 6, ADDRESS)
    fleet.ask("tenant", "add", "leavers")  # of its own: whoever has approvers lifts no revocation alone
    keys = [word for uri in ROOTS for word in ("--key", fleet.ask("key", "create", uri)["uri"])]
    fleet.ask("policy", "create", "--tenant", "leavers", "--name", "gone", "--workload", "mailbox", *keys)
    fleet.ask("mailbox", "add", ADDRESS, "--tenant", "leavers")
    fleet.ask("mailbox", "import", ADDRESS, str(folder / "mail"))
    fleet.ask("policy", "assign", "leavers/gone", "--mailbox", ADDRESS)
    ways = []
    for name in ("ann", "bob"):
        key = SigningKey.generate()
        (folder / f"{name}.key").write_bytes(key.to_pem())
        (folder / f"{name}.pub").write_bytes(public_to_pem(key.public))
        fleet.ask("approver", "add", "leavers", name, "--public-key", str(folder / f"{name}.pub"))
        ways.append(["--by", name, "--private-key", str(folder / f"{name}.key")])
    for uri in ROOTS:
        fleet.ask("key", "delete", uri)
    return ways


def test_law_16_purged(fleet: Fleet, tmp_path: Path) -> None:
    """Law 16: a worker that is killed beside the last key leaves the purge to the next one; its certificate holds."""
    ann, bob = leaving(fleet, tmp_path)
    fleet.leave(RECOVERY_HANDLER)
    fleet.start(RECOVERY_HANDLER, TWINLOCK_APPROVALS__COOLING_OFF_SECONDS="1")
    fleet.all_ready()
    request = fleet.ask("purge", "request", "leavers/gone", *WHY)["id"]
    fleet.ask("approval", "approve", request, *ann)
    fleet.leave(RECOVERY_HANDLER)
    fleet.ask("approval", "approve", request, *bob, "--no-wait")
    fleet.crash(RECOVERY_HANDLER, CrashPoint.PURGE_KEY_DESTROYED, 1, **UNHELD)

    assert "destroying" == fleet.ask("purge", "show", request)["state"]
    assert "is done" in fleet.run("approval", "cancel", request).err
    fleet.staff()
    fleet.lapse()
    fleet.until(lambda: fleet.ask("purge", "show", request)["state"] == "done")
    certificate = tmp_path / "certificate.json"
    certificate.write_text(fleet.run("purge", "certificate", request).out)
    public = fleet.home / "purge-certificate.pub"
    checked = fleet.ask("purge", "certificate", request, "--verify", str(certificate), "--key", str(public))

    assert ("done", 1, 6) == (checked["state"], checked["containers"], checked["items"])
    assert [] == fleet.ask("mailbox", "list", "--tenant", "leavers")
    assert "purged" == fleet.ask("policy", "show", "leavers/gone")["state"]
    fleet.quiet()
    assert fleet.ask("audit", "verify")["intact"]
