"""Recovery in a fleet: a worker of its own carries out what two people signed, among real servers."""

from collections import Counter
from pathlib import Path

from schemas.names import RECOVERY_HANDLER
from tests.fleet.installation import Fleet, mail_in
from twinlock.crashpoints import CrashPoint
from twinlock.keys.signing import SigningKey, public_to_pem

ADDRESS = "lost@losers.example"
OLD = ("local://east/lost", "local://west/lost")
NEW = ("local://north/lost", "local://south/lost")
STANDS = "SELECT k.uri FROM root_keys k JOIN policies p ON p.id = k.policy_id WHERE p.name = 'lost' ORDER BY k.slot"


def lost_mailbox(fleet: Fleet, folder: Path) -> Counter[bytes]:
    """Make a tenant with a mailbox under a policy, whose keys are then deleted, and new keys."""
    expected = mail_in(folder / "mail", 6, ADDRESS)
    fleet.ask("tenant", "add", "losers")  # of its own: whoever has approvers lifts no revocation alone
    for uri in (*OLD, *NEW):
        fleet.ask("key", "create", uri)
    made = ("--tenant", "losers", "--name", "lost", "--workload", "mailbox")
    fleet.ask("policy", "create", *made, *_keys(OLD))
    fleet.ask("mailbox", "add", ADDRESS, "--tenant", "losers")
    fleet.ask("mailbox", "import", ADDRESS, str(folder / "mail"))
    fleet.ask("policy", "assign", "losers/lost", "--mailbox", ADDRESS)
    for uri in OLD:
        fleet.ask("key", "delete", uri)
    return expected


def _keys(uris: tuple[str, str]) -> list[str]:
    return [word for uri in uris for word in ("--key", uri)]


def approvers(fleet: Fleet, folder: Path) -> list[Path]:
    """Name two approvers and return the files of their private keys."""
    files = []
    for name in ("ann", "bob"):
        key = SigningKey.generate()
        files.append(folder / f"{name}.key")
        files[-1].write_bytes(key.to_pem())
        (folder / f"{name}.pub").write_bytes(public_to_pem(key.public))
        fleet.ask("approver", "add", "losers", name, "--public-key", str(folder / f"{name}.pub"))
    return files


def test_law_16_recovered(fleet: Fleet, tmp_path: Path) -> None:
    """Law 16: a worker that is killed after it broke the glass leaves the recovery to the next one, once and whole."""
    expected = lost_mailbox(fleet, tmp_path)
    ann, bob = approvers(fleet, tmp_path)
    request = fleet.ask("recovery", "request", "losers/lost", *_keys(NEW), "--reason", "both lost")["id"]
    fleet.ask("approval", "approve", request, "--by", "ann", "--private-key", str(ann))
    fleet.leave(RECOVERY_HANDLER)
    fleet.ask("approval", "approve", request, "--by", "bob", "--private-key", str(bob), "--no-wait")
    fleet.crash(RECOVERY_HANDLER, CrashPoint.AFTER_BREAK_GLASS, 1)
    fleet.staff()
    fleet.lapse()
    fleet.until(lambda: fleet.ask("recovery", "show", request)["state"] == "done")

    assert list(NEW) == [row["uri"] for row in fleet.rows(STANDS)]
    assert expected == fleet.exported(ADDRESS)
    fleet.quiet()
    fleet.until(lambda: "destroyed" in {row["state"] for row in fleet.rows("SELECT state FROM availability_keys")})
    assert fleet.ask("audit", "verify")["intact"]
