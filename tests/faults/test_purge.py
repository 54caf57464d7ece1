"""Purges by command: who may, until when, what is left at every crash, and what an old backup is worth."""

import contextlib
import json
import shutil
import sqlite3
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from twinlock.approvals.telling import keep
from twinlock.crashpoints import CrashPoint
from twinlock.keys.ports import Destruction
from twinlock.keys.signing import SigningKey, public_to_pem
from twinlock.vaults.software.local import LocalVault

if TYPE_CHECKING:
    from tests.faults.conftest import Home
    from twinlock.custody.audit.log import AuditLog

ANN = "ann@acme.example"
ROOTS = ("local://p1/key", "local://p2/key")
WHY = ("--reason", "the contract has ended", "--contact", "dpo@acme.example")
CHANGES = ("policy-revoked", "policy-restored", "approval-requested", "purge-given-up", "purge-certified")
DUE = "UPDATE jobs SET not_before = '2026-01-01 00:00:00.000000'"
BRIEF = "\n[custody]\nkeep_seconds = 0\nepoch_seconds = 0.5\nconfirm_interval = 0.1\n"  # how long callers hold keys
AT_ONCE = BRIEF + "\n[approvals]\ncooling_off_seconds = 0\n"
LATER = "\n[approvals]\ncooling_off_seconds = 3600\n"


@pytest.fixture(scope="session")
def approved(filled: "Home", tmp_path_factory: pytest.TempPathFactory) -> "Home":
    """Return a home in which ann's mailbox is under policy p, and acme has two approvers."""
    home = filled.copy(tmp_path_factory.mktemp("approved") / "home")
    home.ask("policy", "assign", "acme/p", "--mailbox", ANN)
    for name in ("ann", "bob"):
        key = SigningKey.generate()
        for suffix, pem in (("key", key.to_pem()), ("pub", public_to_pem(key.public))):
            (home.path / f"{name}.{suffix}").write_bytes(pem)
        home.ask("approver", "add", "acme", name, "--public-key", str(home.path / f"{name}.pub"))
    return home


@pytest.fixture(scope="session")
def condemned(approved: "Home", tmp_path_factory: pytest.TempPathFactory) -> "Home":
    """Return a home whose purge of policy p has one signature, and is due with the second."""
    home = approved.copy(tmp_path_factory.mktemp("condemned") / "home")
    settle(home, AT_ONCE)
    lose(home)
    sign(home, requested(home), "ann")
    return home


def settle(home: "Home", settings: str) -> None:
    with (home.path / "twinlock.toml").open("a") as file:
        file.write(settings)


def lose(home: "Home", *uris: str) -> None:
    for uri in uris or ROOTS:
        home.ask("key", "delete", uri)


def requested(home: "Home", policy: str = "acme/p") -> str:
    return str(home.ask("purge", "request", policy, *WHY)["id"])


def signing(home: "Home", request: str, name: str) -> list[str]:
    return ["approval", "approve", request, "--by", name, "--private-key", str(home.path / f"{name}.key")]


def sign(home: "Home", request: str, *names: str) -> Any:
    return [home.ask(*signing(home, request, name)) for name in names][-1]


def waiting(home: "Home") -> str:
    """Return the purge of a home that is condemned."""
    (request,) = home.column("SELECT id FROM purges")
    return str(request)


def state(home: "Home", policy: str = "acme/p") -> str:
    return str(home.ask("policy", "show", policy)["state"])


def availability(home: "Home", policy: str = "acme/p") -> str:
    """Say what the provider's vault holds of a policy's availability key."""
    uri = f"local://provider/availability-{home.ask('policy', 'show', policy)['id']}"
    return home.within(lambda parts: parts.vault.state(uri)).state.value


def certificate(home: "Home", request: str) -> Path:
    path = home.path.with_name("certificate.json")
    path.write_text(home.run("purge", "certificate", request).out)
    return path


def assert_purged(home: "Home", request: str) -> None:
    """Check that nothing is left that was under the policy, and that the certificate says so."""
    shown = home.ask("purge", "show", request)
    home.rest()

    assert ("done", 1, 15) == (shown["state"], shown["containers"], shown["items"])
    assert ("purged", "destroyed") == (state(home), availability(home))
    assert [] == [box for box in home.ask("mailbox", "list", "--tenant", "acme") if box["address"] == ANN]
    assert set() == home.objects()
    assert [] == home.column(
        "SELECT slot FROM policy_key_copies c JOIN policies p ON p.id = c.policy_id WHERE p.name = 'p'"
    )
    home.assert_quiet()
    home.assert_audited()
    assert_numbered(home)
    proof = home.ask("purge", "certificate", request, "--verify", str(certificate(home, request)))

    assert (True, "done", 15) == (proof["valid"], proof["state"], proof["items"])
    assert home.ask("audit", "verify")["intact"]


def assert_numbered(home: "Home") -> None:
    """Check that the audit log names every number that a custodian has to confirm."""
    told = [entry["detail"].get("number") for entry in home.ask("audit", "list") if entry["kind"] in CHANGES]

    assert home.column("SELECT number FROM revocations ORDER BY number") == [number for number in told if number]


@pytest.mark.parametrize("lost", [(), ROOTS[:1], ROOTS[1:]], ids=["none", "first", "second"])
def test_law_16_needs_both_denied(approved: "Home", tmp_path: Path, lost: tuple[str, ...]) -> None:
    """Law 16: a purge is refused, with both verdicts, unless both root keys are definitely denied; all goes on."""
    home = approved.copy(tmp_path / "home")
    if lost:
        lose(home, *lost)
        home.ask("vault", "outage", "p1" if lost == ROOTS[1:] else "p2", "on")
    ran = home.run("purge", "request", "acme/p", *WHY, "--json")
    verdicts = {each["uri"]: each["outcome"] for each in ran.document["verdicts"]}

    assert (1, "refused") == (ran.code, ran.document["state"])
    assert {uri: "denied" if uri in lost else "unavailable" if lost else "ok" for uri in ROOTS} == verdicts
    assert ("active", []) == (state(home), home.column("SELECT id FROM purges"))


def test_needs_two_approvers(filled: "Home", tmp_path: Path) -> None:
    """Law 16: without two approvers a purge is refused; the provider's own policy is never purged."""
    home = filled.copy(tmp_path / "home")
    lose(home)

    assert "has no two approvers" in home.refused("purge", "request", "acme/p", *WHY)
    assert "the provider's own" in home.refused("purge", "request", "service", *WHY)
    assert "no policy" in home.refused("purge", "request", "acme/none", *WHY)
    assert 3 == len(home.column("SELECT detail FROM audit_entries WHERE kind = 'approval-refused'"))
    assert "active" == state(home)


@pytest.mark.parametrize("before", ["active", "revoked", "revoked since"])
def test_cancelled(approved: "Home", mail: Path, tmp_path: Path, before: str) -> None:
    """Until it is due a purge can be cancelled, and the policy is what it was, or revoked if it was meanwhile."""
    home = approved.copy(tmp_path / "home")
    settle(home, LATER)
    if before == "revoked":
        home.ask("policy", "revoke", "acme/p")
    lose(home)
    request = requested(home)
    signed = sign(home, request, "ann", "bob")

    assert ("approved", "approved") == (signed["state"], home.ask("purge", "show", request)["state"])
    assert datetime.fromisoformat(signed["due"]) > datetime.now(UTC) + timedelta(minutes=50)
    assert "purging" == state(home)
    assert "is purging" in home.refused("purge", "request", "acme/p", *WHY)
    assert "purging" in home.refused("policy", "assign", "acme/p", "--mailbox", "bob@acme.example")
    assert "purging" in home.refused("policy", "restore", "acme/p")
    if before == "revoked since":
        assert "purging" == home.ask("policy", "revoke", "acme/p")["state"]
    assert "no certificate yet" in home.refused("purge", "certificate", request)

    home.ask("approval", "cancel", request)
    for uri in ROOTS:
        home.ask("key", "restore", uri)

    assert (before.partition(" ")[0], "cancelled") == (state(home), home.ask("purge", "show", request)["state"])
    if before == "active":
        assert Counter(path.read_bytes() for path in mail.iterdir()) == home.exported(ANN)


def test_callers_first(approved: "Home", tmp_path: Path) -> None:
    """However short it cools off, a purge begins only when no caller can hold a key any more, and says when."""
    home = approved.copy(tmp_path / "home")
    settle(home, "\n[approvals]\ncooling_off_seconds = 0\n")
    lose(home)
    request = requested(home)
    signed = sign(home, request, "ann", "bob")
    (asked,) = home.column("SELECT requested_at FROM approvals WHERE action = 'purge'")
    unheld = datetime.fromisoformat(asked).replace(microsecond=0, tzinfo=UTC) + timedelta(seconds=70)

    assert ("approved", unheld) == (signed["state"], datetime.fromisoformat(signed["due"]))
    assert "approved" == home.ask("purge", "show", request)["state"]


def test_answers_again(condemned: "Home", mail: Path, tmp_path: Path) -> None:
    """A root key that answers again before the first destruction ends the purge, and everything is there."""
    home = condemned.copy(tmp_path / "home")
    home.ask("key", "restore", ROOTS[0])
    ran = home.run(*signing(home, waiting(home), "bob"), "--json")

    assert (1, "cancelled") == (ran.code, ran.document["state"])
    assert "is cancelled, and was not carried out" in ran.err
    assert ("active", "enabled") == (state(home), availability(home))
    assert Counter(path.read_bytes() for path in mail.iterdir()) == home.exported(ANN)


def test_vague(condemned: "Home", tmp_path: Path) -> None:
    """While a vault does not answer a purge waits, approved and not begun; when it denies again it goes on."""
    home = condemned.copy(tmp_path / "home")
    request = waiting(home)
    home.ask("vault", "outage", "p1", "on")

    home.refused(*signing(home, request, "bob"), "--timeout", "20", code=3)

    assert ["both root keys have to be denied"] == [
        text.split(":")[0] for text in home.column("SELECT trouble FROM jobs")
    ]
    assert ("approved", "purging") == (home.ask("purge", "show", request)["state"], state(home))
    home.ask("vault", "outage", "p1", "off")
    home.rest()
    assert_purged(home, request)


def test_unwaited(approved: "Home", tmp_path: Path) -> None:
    """Who does not wait for a purge or a recovery is told the id that its request gets."""
    home = approved.copy(tmp_path / "home")
    lose(home)
    asked = home.ask("purge", "request", "acme/p", *WHY, "--no-wait")
    home.rest()

    assert ("requested", 0) == (asked["state"], asked["approvals"])
    assert "open" == home.ask("purge", "show", asked["id"])["state"]
    home.ask("approval", "cancel", asked["id"])
    keys = [word for each in ("r1", "r2") for word in ("--key", home.ask("key", "create", f"local://{each}/k")["uri"])]
    asked = home.ask("recovery", "request", "acme/p", *keys, "--reason", "lost", "--no-wait")
    home.rest()

    assert ("requested", 0) == (asked["state"], asked["approvals"])
    assert "open" == home.ask("recovery", "show", asked["id"])["state"]


def test_never_signed(approved: "Home", tmp_path: Path) -> None:
    """A purge that nobody signs in its time gives the policy back, also to the next request."""
    home = approved.copy(tmp_path / "home")
    settle(home, "\n[approvals]\nrequest_seconds = 0\ncooling_off_seconds = 0\n")
    lose(home)
    request = requested(home)

    assert "is expired" in home.refused(*signing(home, request, "ann"))
    home.within(lambda parts: keep(parts.store, cast("AuditLog", parts.audit)))

    assert ("expired", "active") == (home.ask("purge", "show", request)["state"], state(home))
    assert request != requested(home)


CRASHES = [
    (CrashPoint.AFTER_CLAIM, 1),
    (CrashPoint.PURGE_OBJECT_DELETED, 1),
    (CrashPoint.PURGE_OBJECT_DELETED, 3),
    (CrashPoint.PURGE_KEY_DESTROYED, 1),
    *((CrashPoint.AFTER_COMMIT, number) for number in range(3, 33, 3)),
    (CrashPoint.BEFORE_COMMIT, 8),
]


@pytest.mark.parametrize(("point", "number"), CRASHES, ids=[f"{point}-{number}" for point, number in CRASHES])
def test_killed(condemned: "Home", tmp_path: Path, point: CrashPoint, number: int) -> None:
    """Law 16: killed at any step a purge goes on; once begun nothing ends it, and the availability key is last."""
    home = condemned.copy(tmp_path / "home")
    request = waiting(home)
    home.crash(point, number, *signing(home, request, "bob"))
    (stage,) = home.column("SELECT stage FROM purges")

    assert "purging" == state(home)
    if stage in ("content", "keys"):
        assert "is done" in home.refused("approval", "cancel", request)
        assert "that has begun" in home.refused("policy", "revoke", "acme/p")
        assert [] == home.column("SELECT slot FROM policy_key_copies WHERE policy_id = (SELECT policy_id FROM purges)")
    if home.column("SELECT id FROM items WHERE container_id IN (SELECT id FROM containers WHERE name LIKE 'ann%')"):
        assert "enabled" == availability(home)
    home.rest()
    if home.ask("purge", "show", request)["approvals"] < 2:
        sign(home, request, "bob")
    assert_purged(home, request)


def test_law_16_verified_to_the_end(condemned: "Home", tmp_path: Path) -> None:
    """Law 16: of a purge that has begun nothing more is destroyed once a signature does not verify any more."""
    home = condemned.copy(tmp_path / "home")
    request = waiting(home)
    home.crash(CrashPoint.PURGE_OBJECT_DELETED, 1, *signing(home, request, "bob"))
    signatures = home.rows("SELECT signature, name FROM approval_signatures")
    write(home, "UPDATE approval_signatures SET signature = zeroblob(64) WHERE name = 'ann'")
    home.refused("purge", "show", request, "--timeout", "5", code=3)

    assert ("enabled", True) == (availability(home), bool(home.objects()))
    assert "two approvers who counted" in home.column("SELECT trouble FROM jobs")[0]
    for row in signatures:
        write(home, "UPDATE approval_signatures SET signature = ? WHERE name = ?", row["signature"], row["name"])
    write(home, DUE)
    home.rest()
    assert_purged(home, request)


def bring_back(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def test_old_copy(condemned: "Home", tmp_path: Path) -> None:
    """What was backed up before is readable by the availability key until the purge, and by nobody after it."""
    home, export = condemned.copy(tmp_path / "home"), str(tmp_path / "export")
    request = waiting(home)
    backup = tmp_path / "backup"
    shutil.copytree(home.path, backup)
    home.ask("approval", "cancel", request)  # as it was when it was backed up: not revoked, not purged

    assert 15 == home.ask("mailbox", "export", ANN, export, "--as", "service:index")["exported"]
    shutil.copy(home.path / "twinlock.db", backup / "twinlock.db")
    request = requested(home)
    sign(home, request, "ann", "bob")

    assert "done" == home.ask("purge", "show", request)["state"]
    for part in ("twinlock.db", "objects"):
        bring_back(backup / part, home.path / part)
    for extra in ("twinlock.db-wal", "twinlock.db-shm"):
        (home.path / extra).unlink(missing_ok=True)

    assert "active" == state(home)
    for who in ("user", "service:index"):
        assert home.refused("mailbox", "export", ANN, str(tmp_path / who), "--as", who)


def test_restored(condemned: "Home", tmp_path: Path) -> None:
    """A purge that a restored database has forgotten to have begun is carried out again, to its certificate."""
    home, log = condemned.copy(tmp_path / "home"), str(tmp_path / "log.jsonl")
    request, backup = waiting(home), tmp_path / "backup"
    home.ask(*signing(home, request, "bob"), "--no-wait")
    shutil.copytree(home.path, backup)
    home.rest()
    assert_purged(home, request)
    home.ask("audit", "export", log)
    for part in ("twinlock.db", "objects"):
        bring_back(backup / part, home.path / part)

    assert [] == home.ask("restore", "check", "--entries", log)["unreplayed"]
    assert "purged" == state(home)
    home.rest()
    assert_purged(home, request)


def test_restored_without_its_request(
    approved: "Home", condemned: "Home", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a backup is older than the request of a purge, its keys are gone again at once, and its content in time."""
    home, log = condemned.copy(tmp_path / "home"), str(tmp_path / "log.jsonl")
    monkeypatch.setenv("TWINLOCK_CONTENT__OBJECTS_KEEP", "0")
    request = waiting(home)
    sign(home, request, "bob")
    home.rest()
    home.ask("audit", "export", log)
    for part in ("twinlock.db", "objects"):
        bring_back(approved.path / part, home.path / part)

    assert home.objects()
    assert [] == home.ask("restore", "check", "--entries", log)["unreplayed"]
    assert ("purged", []) == (state(home), home.column("SELECT number FROM revocations WHERE policy_id = ''"))
    assert home.refused("mailbox", "export", ANN, str(tmp_path / "export"), "--as", "service:index")
    assert_numbered(home)
    home.rest()

    assert set() == home.objects()
    assert [] == [box for box in home.ask("mailbox", "list", "--tenant", "acme") if box["address"] == ANN]
    home.assert_quiet()


def test_pending(condemned: "Home", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate says `pending` until the provider's vault reports the final destruction; then another is issued."""
    home = condemned.copy(tmp_path / "home")
    request, destroy = waiting(home), LocalVault.destroy

    async def keep(vault: LocalVault, uri: str) -> Destruction:
        await destroy(vault, uri)
        return Destruction(datetime.now(UTC) + timedelta(hours=1))

    monkeypatch.setattr(LocalVault, "destroy", keep)
    sign(home, request, "bob")
    first = certificate(home, request).read_text()

    assert ("pending", "purged") == (home.ask("purge", "show", request)["state"], state(home))
    assert "pending" == json.loads(first)["certificate"]["state"]
    monkeypatch.setattr(LocalVault, "destroy", destroy)
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    change(home, first_key(home) | {"final_at": past})
    assert_purged(home, request)


def first_key(home: "Home") -> dict[str, Any]:
    (keys,) = home.column("SELECT keys FROM purges")
    found: dict[str, Any] = json.loads(keys)["availability_keys"][0]
    return found


def change(home: "Home", key: dict[str, Any]) -> None:
    """Let the hour pass in which the vault keeps a key."""
    (keys,) = home.column("SELECT keys FROM purges")
    write(home, "UPDATE purges SET keys = ?", json.dumps({**json.loads(keys), "availability_keys": [key]}))
    write(home, DUE)


def write(home: "Home", statement: str, *values: Any) -> None:
    """Change rows as somebody would who holds the database."""
    with contextlib.closing(sqlite3.connect(home.path / "twinlock.db")) as connection, connection:
        connection.execute(statement, values)


def test_excludes_recovery(approved: "Home", tmp_path: Path) -> None:
    """Law 16: while a recovery waits a purge is refused, and while a purge waits a recovery is."""
    home = approved.copy(tmp_path / "home")
    lose(home)
    keys = [
        word for name in ("r1", "r2") for word in ("--key", home.ask("key", "create", f"local://{name}/key")["uri"])
    ]
    recovery = home.ask("recovery", "request", "acme/p", *keys, "--reason", "lost")["id"]

    assert "recover" in home.refused("purge", "request", "acme/p", *WHY)
    home.ask("approval", "cancel", recovery)
    requested(home)

    assert "purg" in home.refused("recovery", "request", "acme/p", *keys, "--reason", "lost")


def test_sites(condemned: "Home", tmp_path: Path) -> None:
    """A geo's policy is purged like any other: its sites are gone, and another policy may take the geo."""
    home, tree = condemned.copy(tmp_path / "home"), tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    for number in range(6):
        (tree / f"{number}.bin").write_bytes(bytes([number]) * 70_000)
    uris = [home.ask("key", "create", f"local://{vault}/site")["uri"] for vault in ("s1", "s2")]
    keys = [word for uri in uris for word in ("--key", uri)]
    made = ("policy", "create", "--tenant", "acme", "--workload", "site", "--geo", "EUR", *keys)
    home.ask(*made, "--name", "eur")
    home.ask("site", "add", "plans", "--tenant", "acme", "--geo", "EUR")
    home.ask("site", "import", "plans", str(tree))
    home.ask("policy", "assign", "acme/eur", "--geo", "EUR")
    lose(home, *uris)
    request = requested(home, "acme/eur")
    sign(home, request, "ann", "bob")
    shown = home.ask("purge", "show", request)

    assert ("done", 1, 6) == (shown["state"], shown["containers"], shown["items"])
    assert ("purged", []) == (state(home, "acme/eur"), home.ask("site", "list"))
    assert home.ask("purge", "certificate", request, "--verify", str(certificate(home, request)))["valid"]
    for uri in uris:
        home.ask("key", "restore", uri)
    home.ask(*made, "--name", "eur2")
    home.ask("site", "add", "plans", "--tenant", "acme", "--geo", "EUR")
