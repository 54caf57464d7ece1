"""Kill the process at every step of a recovery, start again, and the policy is recovered once and whole."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.wiring.parts import Parts
from schemas.identifiers import ApprovalState
from twinlock.crashpoints import CrashPoint
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import Asker, service
from twinlock.keys.signing import SigningKey, public_to_pem
from twinlock.store.unit import Cause
from workers.recovery_handler.retiring import PURPOSE, retire

if TYPE_CHECKING:
    from tests.faults.conftest import Home

ANN, BOB = "ann@acme.example", "bob@acme.example"
OLD = ("local://p1/key", "local://p2/key")
NEW = ("local://p3/key", "local://p4/key")
STEPS = (
    CrashPoint.AFTER_CLAIM,
    CrashPoint.AFTER_BREAK_GLASS,
    CrashPoint.AFTER_NEW_COPIES,
    CrashPoint.AFTER_FRESH_KEY,
    CrashPoint.BEFORE_ACK,
)
CASES = [(step, 1) for step in STEPS]
CASES += [(point, number) for point in (CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_COMMIT) for number in (1, 3, 5, 8)]


@pytest.fixture(scope="session")
def signed(filled: "Home", tmp_path_factory: pytest.TempPathFactory) -> tuple["Home", Path, str]:
    """Return a home whose policy p has lost both keys, bob's private key, and a request that ann has signed."""
    home = filled.copy(tmp_path_factory.mktemp("lost") / "home")
    people = tmp_path_factory.mktemp("people")
    for name in ("ann", "bob"):
        key = SigningKey.generate()
        (people / f"{name}.key").write_bytes(key.to_pem())
        (people / f"{name}.pub").write_bytes(public_to_pem(key.public))
        home.ask("approver", "add", "acme", name, "--public-key", str(people / f"{name}.pub"))
    home.ask("policy", "assign", "acme/p", "--mailbox", ANN)
    for uri in OLD:
        home.ask("key", "delete", uri)
    for uri in NEW:
        home.ask("key", "create", uri)
    keys = [word for uri in NEW for word in ("--key", uri)]
    request = home.ask("recovery", "request", "acme/p", *keys, "--reason", "both lost")["id"]
    home.ask("approval", "approve", request, "--by", "ann", "--private-key", str(people / "ann.key"))
    return home, people / "bob.key", request


def assert_recovered(home: "Home", request: str, mail: Path) -> None:
    """Check that the policy was recovered once, that its mail is readable, and that no old key is left."""
    policy = "(SELECT id FROM policies WHERE name = 'p')"
    shown = home.ask("policy", "show", "acme/p")
    home.within(_upkept)

    assert ApprovalState.DONE.value == home.ask("recovery", "show", request)["state"]
    assert list(NEW) == [each["uri"] for each in shown["keys"]]
    assert [2] == home.column(f"SELECT generation FROM policy_keys WHERE policy_id = {policy}")  # noqa: S608  # ours
    states = home.column(f"SELECT state FROM availability_keys WHERE policy_id = {policy} ORDER BY state")  # noqa: S608
    assert ["destroyed", "present"] == states
    assert 1 == len([row for row in home.audit() if row.kind == "approval-done"])
    home.assert_sound({ANN: Counter(path.read_bytes() for path in mail.iterdir()), BOB: Counter()})


async def _upkept(parts: Parts) -> None:
    """Do what the worker looks at by itself, for a command ends without waiting for that."""
    assert parts.recovering is not None
    await retire(parts.store, parts.recovering)


@pytest.mark.parametrize(("point", "number"), CASES, ids=lambda value: str(value))
def test_law_11_killed(
    signed: tuple["Home", Path, str], mail: Path, tmp_path: Path, point: CrashPoint, number: int
) -> None:
    """Law 11: killed at any step and started again, a recovery is carried out once, and nothing is lost."""
    lost, key, request = signed
    home = lost.copy(tmp_path / "home")
    approve = ("approval", "approve", request, "--by", "bob", "--private-key", str(key))
    home.crash(point, number, *approve)
    if home.column("SELECT count(*) FROM approval_signatures") == [1]:
        home.ask(*approve)
    home.rest()

    assert_recovered(home, request, mail)


def test_service_policy(filled: "Home", mail: Path, tmp_path: Path) -> None:
    """The provider's own policy is recovered like any other; approvers of the tenant `provider` sign."""
    home = filled.copy(tmp_path / "home")
    for name in ("ann", "bob"):
        key = SigningKey.generate()
        (tmp_path / f"{name}.key").write_bytes(key.to_pem())
        (tmp_path / f"{name}.pub").write_bytes(public_to_pem(key.public))
        home.ask("approver", "add", "provider", name, "--public-key", str(tmp_path / f"{name}.pub"))
    for each in home.ask("policy", "show", "service")["keys"]:
        home.ask("key", "delete", each["uri"])
    for uri in NEW:
        home.ask("key", "create", uri)
    keys = [word for uri in NEW for word in ("--key", uri)]
    request = home.ask("recovery", "request", "service", *keys, "--reason", "both lost")["id"]
    for name in ("ann", "bob"):
        home.ask("approval", "approve", request, "--by", name, "--private-key", str(tmp_path / f"{name}.key"))

    assert list(NEW) == [each["uri"] for each in home.ask("policy", "show", "service")["keys"]]
    assert Counter(path.read_bytes() for path in mail.iterdir()) == home.exported(ANN)


def test_removed_tenant(filled: "Home", tmp_path: Path) -> None:
    """A tenant's availability keys are destroyed after it was removed, in the provider's vault as well."""
    home = filled.copy(tmp_path / "home")
    uri = home.ask("policy", "show", "acme/p")["availability_key"]["uri"]
    heir = home.ask("policy", "show", "service")["id"]

    async def destroy(parts: Parts) -> None:
        assert parts.recovering is not None
        with pytest.raises(KeyRefused, match="no availability key of policy"):
            await parts.recovering.destroy_availability_key(heir, uri, Asker(service(PURPOSE), Cause("test")))

    home.within(destroy)  # as long as its own policy is there
    home.ask("tenant", "remove", "acme")

    assert ["retired"] == home.column(f"SELECT state FROM availability_keys WHERE uri = '{uri}'")  # noqa: S608  # ours
    home.within(_upkept)

    assert "destroyed" == home.within(lambda parts: parts.vault.state(uri)).state.value
    assert "active" == home.ask("policy", "show", "service")["state"]


def test_killed_after_a_key_was_destroyed(signed: tuple["Home", Path, str], mail: Path, tmp_path: Path) -> None:
    """Killed between the destruction of the replaced availability key and its row, both come to the same."""
    lost, key, request = signed
    home = lost.copy(tmp_path / "home")
    home.ask("approval", "approve", request, "--by", "bob", "--private-key", str(key), "--no-wait")
    home.crash(CrashPoint.AFTER_DESTRUCTION, 1, "worker", "run", "--all")
    home.rest()

    assert_recovered(home, request, mail)
