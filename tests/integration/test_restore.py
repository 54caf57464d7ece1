"""A restored backup serves nothing until what it has forgotten was replayed: revocations, approvals, approvers."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from twinlock.keys.signing import SigningKey, public_to_pem

SAMPLES = Path(__file__).parents[2] / "cli" / "demo" / "samples"
PEOPLE = ("ann", "bob", "cid")
NOTHING = {"lacked": "", "entries": 0, "replayed": 0, "unreplayed": []}


class Home:
    """Type commands on a home, and restore its database."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.mark = self.home / "secrets" / "restore.mark"
        self._capsys = capsys

    def __call__(self, *words: str) -> Any:
        """Run a command that succeeds and return its document."""
        code = run([*words, "--json"])
        out, err = self._capsys.readouterr()
        assert 0 == code, (words, err)
        return json.loads(out)

    def refused(self, *words: str) -> str:
        """Run a command that is refused and return what it says."""
        assert 1 == run([*words, "--json"]), words
        return self._capsys.readouterr().err.splitlines()[0].removeprefix("twinlock: ")

    def file(self, name: str, content: bytes | str) -> str:
        """Write a file beside the home and return its path."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def approve(self, request: str, *names: str) -> None:
        """Sign a request."""
        for name in names:
            self("approval", "approve", request, "--by", name, "--private-key", str(self.folder / f"{name}.key"))

    def back_up(self) -> None:
        """Copy the database, as a backup does while nothing runs."""
        shutil.copyfile(self.home / "twinlock.db", self.folder / "backup.db")

    def restore(self) -> None:
        """Bring the copy back."""
        shutil.copyfile(self.folder / "backup.db", self.home / "twinlock.db")

    def change(self, statement: str) -> None:
        """Change the database as whoever holds its file can."""
        with closing(sqlite3.connect(self.home / "twinlock.db")) as database, database:
            database.execute(statement)

    def keep(self) -> tuple[str, str]:
        """Export the log and the newest checkpoint, and return both files."""
        self("audit", "export", str(self.folder / "log.jsonl"))
        return self.file("kept.json", json.dumps(self("audit", "checkpoint"))), str(self.folder / "log.jsonl")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path / "home"))
    made = Home(tmp_path, capsys)
    made("init")
    made("tenant", "add", "acme")
    keys = ("local://left/a", "local://right/b")
    for uri in keys:
        made("key", "create", uri)
    made(
        "policy",
        "create",
        "--tenant",
        "acme",
        "--name",
        "p",
        "--workload",
        "mailbox",
        "--key",
        keys[0],
        "--key",
        keys[1],
    )
    made("mailbox", "add", "ann@acme.example", "--tenant", "acme")
    made("mailbox", "import", "ann@acme.example", str(SAMPLES / "calendar"))
    made("policy", "assign", "acme/p", "--all-mailboxes")
    return made


def add_people(home: Home) -> None:
    """Make a pair of keys for each, and let the first two approve."""
    for name in PEOPLE:
        key = SigningKey.generate()
        home.file(f"{name}.key", key.to_pem())
        (home.folder / f"{name}.key").chmod(0o600)
        home.file(f"{name}.pub", public_to_pem(key.public))
    for name in PEOPLE[:2]:
        home("approver", "add", "acme", name, "--public-key", str(home.folder / f"{name}.pub"))


def lose_much(home: Home) -> tuple[str, str, str]:
    """Restore a backup from before two approvals, a revocation and a newcomer; return a request and two exports."""
    add_people(home)
    home("policy", "revoke", "acme/p")
    lift = home("policy", "restore", "acme/p")["id"]
    home.approve(lift, "ann")
    home.back_up()
    _, log = home.keep()
    early = home.file("early.jsonl", Path(log).read_bytes())
    home.approve(lift, "bob")
    home("policy", "revoke", "acme/p")
    third = home("approver", "add", "acme", "cid", "--public-key", str(home.folder / "cid.pub"))["id"]
    home.approve(third, "ann", "bob")
    home.keep()
    home.file("people.json", json.dumps(home("approver", "list", "acme")))
    home.restore()
    return lift, early, log


def test_story(home: Home) -> None:
    """A revocation, a used approval and a newcomer are back after the check, and not before anything is served."""
    lift, early, log = lose_much(home)
    lacks = "it lacks revocation 3"
    told = f"the database was restored from a backup: {lacks}"

    assert told == home.refused(
        "approval", "approve", lift, "--by", "bob", "--private-key", str(home.folder / "bob.key")
    )
    assert told == home.refused("restore", "check")
    assert "a newer one is needed" in home.refused("restore", "check", "--entries", early)
    assert "can't be used" in home.refused(
        "restore", "check", "--entries", home.file("cut", Path(log).read_bytes()[:-9])
    )
    assert "restore" == home("status")["waits_for_a_person"][0]["what"]

    found = home("restore", "check", "--entries", log)

    assert (lacks, []) == (found["lacked"], found["unreplayed"])
    assert 4 == found["replayed"]  # a request, the lifting that it was for, the revocation, the newcomer
    assert "revoked" == home("policy", "show", "acme/p")["state"]
    assert json.loads((home.folder / "people.json").read_text()) == home("approver", "list", "acme")
    assert "done" == home("approval", "show", lift)["state"]
    assert "revoked" in home.refused("mailbox", "export", "ann@acme.example", str(home.folder / "out"))
    assert home("audit", "verify", "--checkpoint", str(home.folder / "kept.json"))["intact"]
    assert NOTHING == home("restore", "check")


def test_forged_entries(home: Home) -> None:
    """An export in which anything was changed is not believed, though its file is there to be read."""
    home.back_up()
    home("policy", "revoke", "acme/p")
    _, log = home.keep()
    home.restore()
    lines = Path(log).read_text().splitlines(keepends=True)
    changed = [line.replace("policy-revoked", "policy-restored") for line in lines]
    deep = ["[" * 100_000 + "\n", *lines]
    forgeries = {"changed": changed, "gap": lines[:3] + lines[4:], "end": lines[:-1], "deep": deep}
    for name, forged in forgeries.items():
        said = home.refused("restore", "check", "--entries", home.file(name, "".join(forged)))

        assert said.startswith("the exported log can't be used: "), name
    assert "active" == home("policy", "show", "acme/p")["state"]
    assert "restored from a backup" in home.refused("mailbox", "export", "ann@acme.example", str(home.folder / "out"))


def test_written_since(home: Home) -> None:
    """What was written after the restore is kept, behind the lost entries, and the chain that was signed goes on."""
    home.back_up()
    home("policy", "revoke", "acme/p")
    kept, log = home.keep()
    home.restore()
    home("key", "probe", "local://left/a")
    found = home("restore", "check", "--entries", log)
    probed = [entry for entry in home("audit", "list") if entry["kind"] == "root-key-probed"][-1]

    assert 1 == found["replayed"]
    assert "happened_at" in probed["detail"]
    assert home("audit", "verify", "--checkpoint", kept)["intact"]


def test_whole_home_restored(home: Home) -> None:
    """Without its mark a home serves nothing until it was held against a checkpoint, or its loss was accepted."""
    kept, _ = home.keep()
    home.mark.unlink()
    home("init")
    told = home.refused("mailbox", "export", "ann@acme.example", str(home.folder / "out"))

    assert "this home holds no mark" in told
    assert "this home holds no mark" in home.refused("restore", "check")
    assert NOTHING == home("restore", "check", "--checkpoint", kept)
    assert 9 == home("mailbox", "export", "ann@acme.example", str(home.folder / "served"))["exported"]


def test_loss_accepted(home: Home) -> None:
    """The operator's word, with a reason that is audited, lets an old database serve."""
    home.back_up()
    home("policy", "revoke", "acme/p")
    home.restore()
    home("restore", "check", "--accept-loss", "the log is lost as well")
    entry = home("audit", "list")[-1]

    assert ("restore-accepted", "the log is lost as well") == (entry["kind"], entry["detail"]["reason"])
    assert "it lacks revocation 1" == entry["detail"]["lacks"]
    assert 9 == home("mailbox", "export", "ann@acme.example", str(home.folder / "out"))["exported"]


def test_loss_accepted_in_part(home: Home) -> None:
    """What an older export tells is replayed by the operator's word, and what came after it stays forgotten."""
    home.back_up()
    home("policy", "revoke", "acme/p")
    _, log = home.keep()
    home("key", "probe", "local://left/a")
    home.restore()

    assert "a newer one is needed" in home.refused("restore", "check", "--entries", log)
    found = home("restore", "check", "--entries", log, "--accept-loss", "nothing newer is left")

    assert (1, []) == (found["replayed"], found["unreplayed"])
    assert "revoked" == home("policy", "show", "acme/p")["state"]
    assert NOTHING == home("restore", "check")
    assert home("audit", "verify")["intact"]


def test_law_15_forged_checkpoint(home: Home) -> None:
    """Law 15: a checkpoint that somebody else wrote has nothing served, and no mark made of it, until it is gone."""
    mark, out = home.mark.read_bytes(), str(home.folder / "out")
    home.change("INSERT INTO audit_checkpoints SELECT 1000000, at, statement, signature FROM audit_checkpoints LIMIT 1")
    told = "the audit log's newest checkpoint, that of seal 1000000, is not one that was signed of it"

    assert told == home.refused("mailbox", "export", "ann@acme.example", out)
    assert told == home.refused("restore", "check")
    assert told == home.refused("restore", "check", "--accept-loss", "there is none")
    assert "seal 1000000 is missing, and a checkpoint tells of it" in home.refused("audit", "verify")
    waits = home("status")["waits_for_a_person"][0]

    assert (f"nothing is served: {told}", "twinlock audit verify") == (waits["about"], waits["next"])
    assert mark == home.mark.read_bytes()

    home.change("DELETE FROM audit_checkpoints WHERE seal = 1000000")

    assert 9 == home("mailbox", "export", "ann@acme.example", out)["exported"]
    assert mark != home.mark.read_bytes()
    assert home("audit", "verify")["intact"]


def test_service_policy_rolls(home: Home) -> None:
    """The provider's own policy is rolled like any other, and what lies under it is as it was."""
    home("mailbox", "add", "bob@acme.example", "--tenant", "acme")
    home("mailbox", "import", "bob@acme.example", str(SAMPLES / "calendar"))
    home("key", "rotate", "local://provider-a/service-mailbox")
    home("policy", "refresh", "service", "--new-policy-key")
    shown = home("mailbox", "show", "bob@acme.example")
    policy = home("policy", "show", "service")

    assert (2, 2) == (policy["policy_version"], shown["policy_version"])
    assert ["2", "1"] == [key["version"] for key in policy["keys"]]
    assert "0" not in policy["objects_by_key_version"]
    assert 9 == home("mailbox", "export", "bob@acme.example", str(home.folder / "out"))["exported"]
