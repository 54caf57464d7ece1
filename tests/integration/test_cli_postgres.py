"""The command line on PostgreSQL: the whole story, and every failure of the database in the program's own words."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.command import Flags
from cli.demo import story
from cli.main import run
from tests.servers.postgres import Postgres
from twinlock.keys.signing import SigningKey, public_to_pem

PROGRAM = str(Path(sys.executable).with_name("twinlock"))
COPIES = 10

Ran = tuple[int, str, str]


@pytest.fixture
def shared(postgres: Postgres) -> Iterator[str]:
    """Return the URL of an empty database."""
    yield postgres.create("cli")
    postgres.drop("cli")


@pytest.fixture
def home(tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a home on that database will be."""
    monkeypatch.setenv("TWINLOCK_DATABASE", shared)
    return tmp_path / "home"


def twinlock(home: Path, *arguments: str) -> Ran:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*arguments, "--home", str(home)])
    return code, out.getvalue(), err.getvalue()


def asked(home: Path, *arguments: str) -> Any:
    """Run a command that succeeds and return its document."""
    code, out, err = twinlock(home, *arguments, "--json")

    assert (0, "") == (code, err)
    return json.loads(out)


def refused(home: Path, *arguments: str) -> str:
    """Run a command that fails in the program's own grammar; return what it said."""
    code, out, err = twinlock(home, *arguments)
    lines = err.splitlines()

    assert 1 == code, (out, err)
    assert lines[0].startswith("twinlock: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    return err


@pytest.fixture
def of_sandbox(postgres: Postgres) -> Iterator[str]:
    """Return the URL of another empty database."""
    yield postgres.create("sandbox")
    postgres.drop("sandbox")


def test_story(
    tmp_path: Path,
    shared: str,
    of_sandbox: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every scene of the demo holds on PostgreSQL: outage, revocation, recovery, purge, and every byte comes back."""
    databases = {"home": shared, "sandbox": of_sandbox}

    def on_postgres(arguments: list[str], flags: Flags) -> int:
        monkeypatch.setenv("TWINLOCK_DATABASE", databases[Path(os.environ["TWINLOCK_HOME"]).name])
        return run(arguments, flags)

    code = story.run(tmp_path / "demo", on_postgres, COPIES)
    out, err = capfd.readouterr()

    assert 0 == code, err
    assert "Every proof held" in out
    assert not list((tmp_path / "demo").rglob("*.db"))


def test_init_twice(home: Path, postgres: Postgres) -> None:
    """The first init makes the home and shows no password; the second one changes nothing."""
    first, second = asked(home, "init"), asked(home, "init")

    assert [True, False] == [first["changed"], second["changed"]]
    assert first["database"].startswith("postgresql+asyncpg://twinlock:***@127.0.0.1:")
    assert postgres.password not in json.dumps(first)


def test_ten_inits(home: Path, postgres: Postgres) -> None:
    """Of ten inits of one home at once all succeed, and one service policy of each workload is there."""
    inits = [subprocess.Popen([PROGRAM, "init", "--home", str(home)], stderr=subprocess.PIPE) for _ in range(10)]
    said = [(each.communicate(timeout=240)[1], each.returncode) for each in inits]

    assert [(b"", 0)] * 10 == said
    assert 2 == postgres.execute("SELECT count(*) FROM policies", "cli")


def test_another_home(home: Path, tmp_path: Path) -> None:
    """A database that one home works on is refused to another home, which could neither read nor trust it."""
    asked(home, "init")

    assert "the database belongs to another home" in refused(tmp_path / "other", "init")
    assert asked(home, "tenant", "add", "acme")


def test_copied_home(home: Path, tmp_path: Path) -> None:
    """While the workers of a home run, those of a copy of it are refused by the database's own lock."""
    asked(home, "init")
    copy = Path(shutil.copytree(home, tmp_path / "copy"))
    worker = subprocess.Popen(
        [PROGRAM, "worker", "run", "--all", "--home", str(home)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert worker.stderr is not None
        while "running" not in (line := worker.stderr.readline()):
            assert line, "the worker ended"
        said = _until_said(copy, "the workers of a copy of this home run on the same database")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)

    assert "without a broker only one home may work on a database" in said
    assert 0 == worker.returncode


def _until_said(home: Path, wanted: str) -> str:
    # The line on standard error comes a moment before the lock.
    for _ in range(5):
        code, _out, err = twinlock(home, "worker", "run", "--all", "--timeout", "1")
        if wanted in err and code == 1:
            return err
    raise AssertionError(err)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda url: url.replace("/cli", "/nowhere"), "has no database nowhere", id="no database"),
        pytest.param(lambda url: url.replace("twinlock:", "stranger:"), "refuses the user", id="unknown user"),
        pytest.param(lambda url: url.replace("@", "wrong@"), "refuses the user or the password", id="wrong password"),
        pytest.param(lambda url: url.rpartition(":")[0] + ":1/cli", "nothing answers for", id="nobody there"),
        pytest.param(lambda url: url + "?ssl=require", "has no TLS", id="no TLS"),
        pytest.param(lambda url: url + "?sslmode=require", "an option that can't be used", id="unknown option"),
    ],
)
@pytest.mark.parametrize("command", ["init", "status"])
def test_refused(
    home: Path,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[str], str],
    said: str,
    command: str,
) -> None:
    """What is wrong with the database is said in one line, with a hint and without the password."""
    if command == "status":
        asked(home, "init")
    monkeypatch.setenv("TWINLOCK_DATABASE", change(os.environ["TWINLOCK_DATABASE"]))
    err = refused(home, command)

    assert said in err
    assert "hint: " in err
    assert postgres.password not in err


@pytest.fixture
def durable() -> Iterator[Postgres]:
    """Start a cluster that is there to be killed."""
    cluster = Postgres(durable=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def _mail(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3000):
        (folder / f"{number}.eml").write_text(f"Subject: {number}\n\nhello {number}\n")
    return folder


def _killed_under(cluster: Postgres, *command: str) -> tuple[int, str]:
    """Kill the cluster when a command has committed its first items; return what came of the command."""
    process = subprocess.Popen([PROGRAM, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not cluster.execute("SELECT count(*) FROM items", "cli"):
        time.sleep(0.05)
    cluster.kill()
    _out, err = process.communicate(timeout=120)
    cluster.start()
    return process.returncode, err


def test_killed_in_the_middle(durable: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that dies under a command is told in one line; when it is back nothing committed is lost."""
    home, mail, out = tmp_path / "home", _mail(tmp_path / "mail"), tmp_path / "out"
    monkeypatch.setenv("TWINLOCK_DATABASE", durable.create("cli"))
    monkeypatch.setenv("TWINLOCK_CONTENT__BATCH_ITEMS", "10")
    asked(home, "init")
    asked(home, "tenant", "add", "acme")
    asked(home, "mailbox", "add", "ann@acme.example", "--tenant", "acme")
    importing = ("mailbox", "import", "ann@acme.example", str(mail))
    code, err = _killed_under(durable, *importing, "--home", str(home))
    there = durable.execute("SELECT count(*) FROM items", "cli")
    again = asked(home, *importing)
    asked(home, "mailbox", "export", "ann@acme.example", str(out))

    assert (1, ["twinlock: ", "hint: "]) == (code, re.findall(r"^[a-z]+: ", err, re.MULTILINE)[-2:])
    assert "PostgreSQL" in err
    assert "Traceback" not in err
    assert durable.password not in err
    assert (3000 - there, there) == (again["imported"], again["skipped"])
    assert sorted(path.read_bytes() for path in mail.iterdir()) == sorted(path.read_bytes() for path in out.iterdir())


def test_purge(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge is carried out on PostgreSQL, step by step, and its certificate names what was there."""
    monkeypatch.setenv("TWINLOCK_APPROVALS__COOLING_OFF_SECONDS", "0")
    for name, seconds in (("KEEP_SECONDS", "0"), ("EPOCH_SECONDS", "0.5"), ("CONFIRM_INTERVAL", "0.1")):
        monkeypatch.setenv(f"TWINLOCK_CUSTODY__{name}", seconds)  # how long callers hold keys
    mail = tmp_path / "mail"
    mail.mkdir()
    for number in range(3):
        (mail / f"{number}.eml").write_bytes(bytes([number]) * 200_000)
    asked(home, "init")
    asked(home, "tenant", "add", "acme")
    keys = [asked(home, "key", "create", f"local://{vault}/key")["uri"] for vault in ("a", "b")]
    asked(
        home,
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
    asked(home, "mailbox", "add", "ann@acme.example", "--tenant", "acme")
    asked(home, "mailbox", "import", "ann@acme.example", str(mail))
    asked(home, "policy", "assign", "acme/p", "--mailbox", "ann@acme.example")
    signers = {name: SigningKey.generate() for name in ("ann", "bob")}
    for name, key in signers.items():
        (tmp_path / name).write_bytes(key.to_pem())
        (tmp_path / f"{name}.pub").write_bytes(public_to_pem(key.public))
        asked(home, "approver", "add", "acme", name, "--public-key", str(tmp_path / f"{name}.pub"))
    for uri in keys:
        asked(home, "key", "delete", uri)
    request = asked(home, "purge", "request", "acme/p", "--reason", "it is over", "--contact", "dpo")["id"]
    for name in signers:
        asked(home, "approval", "approve", request, "--by", name, "--private-key", str(tmp_path / name))
    shown, proof = asked(home, "purge", "show", request), asked(home, "purge", "certificate", request)["certificate"]

    assert ("done", 1, 3) == (shown["state"], shown["containers"], shown["items"])
    assert [("service", proof["earlier_kept_since"])] == [
        (each["name"], each["backups_before"]) for each in proof["earlier"]
    ]
    assert [] == asked(home, "mailbox", "list", "--tenant", "acme")
