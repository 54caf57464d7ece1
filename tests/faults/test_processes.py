"""Real processes on one home, at the same time and on the same mailbox.

A process that has to be somewhere at a moment stops itself there, so that no test depends on who is faster.
"""

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twinlock.crashpoints import CrashPoint

if TYPE_CHECKING:
    from tests.faults.conftest import Home

ANN, BOB, CAT = "ann@acme.example", "bob@acme.example", "cat@acme.example"
ASSIGN = ("policy", "assign", "acme/p", "--mailbox", ANN)
COMPLAINTS = ("database is locked", "Traceback", "OperationalError", "unexpected")


@pytest.fixture(scope="session")
def everything(mail: Path) -> Counter[bytes]:
    """Return the bytes of all messages."""
    return Counter(path.read_bytes() for path in mail.iterdir())


@pytest.fixture
def late(tmp_path: Path) -> Path:
    """Return a folder of mail that arrives late, small and large."""
    folder = tmp_path / "late"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.eml").write_bytes(b"Subject: late\n\n" + bytes([number]) * (70_000 * number))
    return folder


def goes_on(process: subprocess.Popen[str]) -> None:
    """Let a stopped process go on, and wait until it has done its work."""
    os.kill(process.pid, signal.SIGCONT)
    ends_well(process)


def ends_well(*processes: subprocess.Popen[str]) -> None:
    """Wait for processes that have to succeed and to say nothing."""
    results = [(*process.communicate(timeout=120), process.returncode) for process in processes]

    assert [("", 0)] * len(results) == [(err, code) for _, err, code in results]


def assert_calm(home: "Home") -> None:
    """Check that the log holds nothing of locks and nothing unexpected."""
    log = home.path / "twinlock.log"
    lines = log.read_text().splitlines() if log.exists() else []

    assert [] == [line for line in lines if any(word in line for word in COMPLAINTS)]


def under(home: "Home", policy: str) -> tuple[int, int]:
    """Return how many containers and how many objects are under a policy."""
    document = home.ask("policy", "show", policy)
    return document["assigned"], sum(document["objects_by_key_version"].values())


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("point", [CrashPoint.AFTER_CLAIM, CrashPoint.AFTER_OBJECT_WRITE])
def test_two_policies(home: "Home", late: Path, everything: Counter[bytes], point: CrashPoint, number: int) -> None:
    """An assignment to Q and new mail, while re-encryption to P is running, end under Q with nothing under P."""
    running = home.stopped(point, number, *ASSIGN)
    home.ask("policy", "assign", "acme/q", "--mailbox", ANN, "--no-wait")
    added = home.ask("mailbox", "import", ANN, str(late))
    goes_on(running)
    home.rest()

    assert 3 == added["imported"]
    assert (0, 0) == under(home, "acme/p")
    assert (1, everything.total() + 3) == under(home, "acme/q")
    home.assert_sound({ANN: everything + Counter(path.read_bytes() for path in late.iterdir()), BOB: Counter()})
    assert_calm(home)


def test_late_mail_is_touched_once(home: "Home", late: Path, everything: Counter[bytes]) -> None:
    """Mail that arrives during re-encryption is encrypted under the new key at once, and never touched again."""
    # A claim may find nothing to do, so their number says little; what is written is under the new key.
    running = home.stopped(CrashPoint.AFTER_OBJECT_WRITE, 1, *ASSIGN)
    before = set(home.column("SELECT id FROM items"))
    home.ask("mailbox", "import", ANN, str(late))
    new = f"SELECT id, generation, version FROM items WHERE id NOT IN ({', '.join(map(repr, before))})"  # noqa: S608
    arrived = home.rows(new)
    goes_on(running)

    assert [(2, 1)] * 3 == [(row["generation"], row["version"]) for row in arrived]
    assert arrived == home.rows(new)
    assert {(2, 2)} == {(row["generation"], row["version"]) for row in home.rows("SELECT * FROM items")} - {(2, 1)}
    home.assert_sound({ANN: everything + Counter(path.read_bytes() for path in late.iterdir()), BOB: Counter()})


@pytest.mark.parametrize("point", [CrashPoint.AFTER_CLAIM, CrashPoint.AFTER_OBJECT_WRITE])
def test_deleted_during_a_step(home: "Home", everything: Counter[bytes], point: CrashPoint) -> None:
    """What is deleted while a step is at work stays deleted, and the rest is all there."""
    running = home.stopped(point, 2, *ASSIGN)
    ids = [item["id"] for item in home.ask("mailbox", "items", ANN)]
    home.ask("mailbox", "delete", ANN, *ids[::2])
    goes_on(running)
    left = home.exported(ANN)

    assert ids[1::2] == [item["id"] for item in home.ask("mailbox", "items", ANN)]
    assert left == left & everything
    home.assert_sound({ANN: left, BOB: Counter()})


def test_removed_during_a_step(home: "Home") -> None:
    """A mailbox that is removed while a step is at work is gone, with its job and its objects."""
    running = home.stopped(CrashPoint.AFTER_OBJECT_WRITE, 1, *ASSIGN)
    home.ask("mailbox", "remove", ANN)
    goes_on(running)

    assert [] == home.column("SELECT id FROM items")
    home.assert_sound({BOB: Counter()})


def test_law_12_removal_goes_on(home: "Home", everything: Counter[bytes]) -> None:
    """A removal that is killed between two transactions leaves a sound mailbox with the rest; a second one ends it."""
    home.crash(CrashPoint.AFTER_COMMIT, 2, "mailbox", "remove", ANN)
    left = home.exported(ANN)

    assert everything.total() - 8 == left.total()
    assert left == left & everything
    home.assert_sound({ANN: left, BOB: Counter()})
    assert {"deleted": left.total()} == home.ask("mailbox", "remove", ANN)
    home.assert_sound({BOB: Counter()})


def test_interrupted_during_a_step(home: "Home", everything: Counter[bytes]) -> None:
    """An interrupt ends a command with one line and a hint, and another one finishes what it began."""
    running = home.stopped(CrashPoint.AFTER_CLAIM, 2, *ASSIGN)
    running.send_signal(signal.SIGINT)
    os.kill(running.pid, signal.SIGCONT)
    out, err = running.communicate(timeout=120)

    assert (130, "") == (running.returncode, out)
    assert "twinlock: interrupted\nhint: what was begun goes on with the next command or a worker run\n" == err
    home.rest()
    assert (1, everything.total()) == under(home, "acme/p")
    home.assert_sound({ANN: everything, BOB: Counter()})


def test_everything_at_once(home: "Home", mail: Path, everything: Counter[bytes]) -> None:
    """Three imports, a move and two assignments beside a worker run all succeed, and no database is locked."""
    home.ask("mailbox", "add", CAT, "--tenant", "acme")
    with home.start("worker", "run", "--all") as worker:
        assert worker.stderr is not None
        assert worker.stderr.readline().startswith("running ")
        ends_well(
            home.start("mailbox", "import", ANN, str(mail)),
            home.start("mailbox", "import", BOB, str(mail)),
            home.start("mailbox", "import", CAT, str(mail)),
            home.start("mailbox", "move", ANN),
            home.start("policy", "assign", "acme/p", "--mailbox", BOB),
            home.start("policy", "assign", "acme/q", "--mailbox", CAT),
        )
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=120)

    assert 0 == worker.returncode
    assert [] == [word for word in COMPLAINTS if word in err]
    home.rest()
    home.assert_sound({ANN: everything, BOB: everything, CAT: everything})
    assert_calm(home)


def test_same_import_at_once(home: "Home", mail: Path, everything: Counter[bytes]) -> None:
    """Several imports of one source into one mailbox at the same time add every message once."""
    ends_well(*(home.start("mailbox", "import", BOB, str(mail)) for _ in range(3)))

    home.assert_sound({ANN: everything, BOB: everything})
    assert_calm(home)


def test_two_assignments_at_once(home: "Home", everything: Counter[bytes]) -> None:
    """Two assignments of one mailbox at the same time end under one of the policies, with nothing under the other."""
    ends_well(*(home.start("policy", "assign", f"acme/{name}", "--mailbox", ANN) for name in ("p", "q")))
    home.rest()
    ends = sorted([under(home, "acme/p"), under(home, "acme/q")])

    assert [(0, 0), (1, everything.total())] == ends
    home.assert_sound({ANN: everything, BOB: Counter()})
    assert_calm(home)
