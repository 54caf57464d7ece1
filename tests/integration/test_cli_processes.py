"""Several processes on one home: two inits, a worker run beside commands, and who takes over when one dies."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.roster import ROSTER

PROGRAM = str(Path(sys.executable).with_name("twinlock"))
MAIL = "From someone\nSubject: {number}\n\nhello {number}\n\n"


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command and don't wait for it."""
    return subprocess.Popen(
        [PROGRAM, *arguments, "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a command; return its exit code, output and error output."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def twinlock(home: Path, *arguments: str) -> Any:
    """Run a command that succeeds and return its document."""
    code, out, err = finish(start(home, *arguments, "--json"))

    assert (0, "") == (code, err)
    return json.loads(out)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a mailbox of some mail."""
    folder = tmp_path_factory.mktemp("processes")
    home = folder / "home"
    (folder / "mail.mbox").write_text("".join(MAIL.format(number=number) for number in range(30)))
    twinlock(home, "init")
    twinlock(home, "tenant", "add", "acme")
    twinlock(home, "mailbox", "add", "ann@acme.example", "--tenant", "acme")
    twinlock(home, "mailbox", "import", "ann@acme.example", str(folder / "mail.mbox"))
    return home


@pytest.fixture
def home(prepared: Path, tmp_path: Path) -> Path:
    """Return a home of the test's own."""
    return Path(shutil.copytree(prepared, tmp_path / "home"))


@pytest.fixture
def worker(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the workers in a process of their own."""
    process = start(home, "worker", "run", "--all")
    assert process.stderr is not None
    first = process.stderr.readline()
    assert f"running {', '.join(ROSTER)}\n" == first
    yield process
    process.kill()
    process.communicate()


def test_nobody_else_may_enter(prepared: Path) -> None:
    """Every folder of a home is 0700 and every file 0600."""
    modes = {path.is_dir(): set[int]() for path in (prepared, prepared / "twinlock.db")}
    for path in (prepared, *prepared.rglob("*")):
        modes[path.is_dir()].add(path.stat().st_mode & 0o777)

    assert {True: {0o700}, False: {0o600}} == modes


def test_two_inits_at_once(tmp_path: Path) -> None:
    """Two inits of one home at the same time make it once, and both succeed."""
    both = [start(tmp_path / "home", "init", "--json") for _ in range(2)]
    results = [finish(process) for process in both]

    assert [0, 0] == [code for code, _, _ in results]
    assert [False, True] == sorted(json.loads(out)["changed"] for _, out, _ in results)
    assert ["service", "service-site"] == [policy["name"] for policy in twinlock(tmp_path / "home", "policy", "list")]


def test_interrupted_init_is_repaired(tmp_path: Path) -> None:
    """An init that was cut off in the middle is finished by the next one, with one service policy."""
    home = tmp_path / "home"
    code, _, err = finish(start(home, "init", "--timeout", "0"))
    again = twinlock(home, "init")

    assert 3 == code
    assert "not done after 0 s" in err
    assert again["changed"]
    assert not twinlock(home, "init")["changed"]
    assert ["service", "service-site"] == [policy["name"] for policy in twinlock(home, "policy", "list")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_run_drains(worker: subprocess.Popen[str], number: signal.Signals) -> None:
    """SIGTERM and SIGINT end a worker run with exit code 0."""
    worker.send_signal(number)
    code, out, _ = finish(worker)

    assert (0, "drained and stopped\n") == (code, out)


def test_second_worker_run_is_refused(home: Path, worker: subprocess.Popen[str]) -> None:
    """A second worker run on one home is refused, and names the fix."""
    code, out, err = finish(start(home, "worker", "run", "--all"))

    assert (1, "") == (code, out)
    assert f"twinlock: a worker run is active on the home {home} already (process {worker.pid})" in err
    assert "hint: " in err


def test_worker_check(home: Path, worker: subprocess.Popen[str]) -> None:
    """A check finds the worker run while it is there."""
    assert {"worker": "dep_assigner", "running": True, "replicas": 1} == twinlock(
        home, "worker", "check", "dep_assigner"
    )


def test_commands_beside_a_worker_run(home: Path, worker: subprocess.Popen[str]) -> None:
    """Beside a worker run a command writes its request and waits until it is done."""
    moved = twinlock(home, "mailbox", "move", "ann@acme.example")
    status = twinlock(home, "status")

    assert {"items": 30} == moved
    assert "running in another process" == status["workers"]
    assert [] == status["work"]


def test_command_takes_over(home: Path, worker: subprocess.Popen[str]) -> None:
    """A command that waits for another process takes the lock and does the work when that process is killed."""
    worker.send_signal(signal.SIGSTOP)
    waiting = start(home, "mailbox", "move", "ann@acme.example", "--json")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=4)
    worker.kill()
    code, out, _ = finish(waiting)

    assert (0, {"items": 30}) == (code, json.loads(out))


def test_several_commands_at_once(home: Path) -> None:
    """Commands that wait at the same time all get their answers, whoever of them does the work."""
    several = [start(home, "mailbox", "move", "ann@acme.example", "--json") for _ in range(3)]
    results = [finish(process) for process in several]

    assert [0, 0, 0] == [code for code, _, _ in results], results
    assert 30 == twinlock(home, "mailbox", "show", "ann@acme.example")["items_encrypted"]
    assert [] == twinlock(home, "status")["work"]


def test_failed_read_leaves_nothing_unhandled(home: Path) -> None:
    """After a failed read its alert has left the outbox."""
    for uri in ("local://provider-a/service-mailbox", "local://provider-b/service-mailbox"):
        twinlock(home, "key", "disable", uri)
    code, out, err = finish(start(home, "mailbox", "export", "ann@acme.example", str(home.parent / "out")))

    assert (1, "") == (code, out)
    assert "twinlock: policy service refuses" in err
    assert 0 == twinlock(home, "status")["queues"]["outbox"]
    assert "alert key-revoked" in (home / "twinlock.log").read_text()


def test_no_traceback_for_a_reader_that_goes(home: Path) -> None:
    """A reader that closes the pipe gets no traceback."""
    line = f"{PROGRAM} errors | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TWINLOCK_HOME": str(home)},
    )

    assert done.stdout.startswith("SITUATION")
    assert "" == done.stderr


def test_interrupted_at_the_start(tmp_path: Path) -> None:
    """An interrupt that comes while the program is still being imported shows no traceback."""
    line = (
        "import sys, types\n"
        "def find(name, *_):\n"
        "    if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, types.SimpleNamespace(find_spec=find))\n"
        "from cli.entry import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False, cwd=tmp_path)

    assert (130, "", "twinlock: interrupted\n") == (done.returncode, done.stdout, done.stderr)


def test_alerts_tail(home: Path) -> None:
    """A tail writes an alert as it is raised by another process, at once, and an interrupt ends it with 130."""
    for side in ("left", "right"):
        twinlock(home, "key", "create", f"local://{side}/k")
    keys = ("--key", "local://left/k", "--key", "local://right/k")
    twinlock(home, "policy", "create", "--tenant", "acme", "--name", "p", "--workload", "mailbox", *keys)
    tail = start(home, "alerts", "tail")
    assert tail.stdout is not None
    for word in ("revoke", "restore") * 10:  # it does not say from when on it listens
        twinlock(home, "policy", word, "acme/p")
        if select.select([tail.stdout], [], [], 2)[0]:
            break
    line = tail.stdout.readline()
    tail.send_signal(signal.SIGINT)
    code, _, err = finish(tail)

    assert (130, "twinlock: interrupted") == (code, err.splitlines()[0])
    assert re.fullmatch(r"\S+ \S+ policy-\w+ \(acme, to customer\): \w+, \d+ times: .*policy acme/p .*\n", line)


def bury(home: Path, name: str, mailbox: str) -> None:
    """Put a dead letter into the database: a request to move a mailbox."""
    body = {
        "specversion": "1.0",
        "id": name,
        "source": "urn:test",
        "type": "twinlock.move.requested.v1",
        "time": "2026-01-01T00:00:00Z",
        "data": {"mailbox": mailbox},
    }
    row = ("mailbox_reencryptor", "local", "urn:test", name, body["type"], name, json.dumps(body).encode())
    with contextlib.closing(sqlite3.connect(home / "twinlock.db")) as connection:
        connection.execute(
            "INSERT INTO dead_letters (consumer, publisher, source, id, type, correlation, body, attempts, reason, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 6, 'a test', '2026-01-01 00:00:00.000000')",
            row,
        )
        connection.commit()


def test_dead_letters_are_retried(home: Path) -> None:
    """A retried dead letter is delivered, handled, and gone; one that is refused once more is back."""
    bury(home, "good", "ann@acme.example")
    listed = twinlock(home, "dlq", "list")
    retried = twinlock(home, "dlq", "retry", str(listed[0]["id"]))
    assert ["good"] == [letter["event"] for letter in listed]
    assert {"retried": 1, "failed": 0} == retried
    assert [] == twinlock(home, "dlq", "list")
    (entry,) = [each for each in twinlock(home, "audit", "list") if each["kind"] == "dead-letters-retried"]
    assert (1, ["good"]) == (entry["detail"]["count"], [name.split("/")[1] for name in entry["detail"]["letters"]])
    bury(home, "bad", "no address")
    code, out, err = finish(start(home, "dlq", "retry", "--json"))

    assert (1, {"retried": 1, "failed": 1}) == (code, json.loads(out))
    assert "1 of 1 were given up again" in err
