"""Kill the process at every crash point, start again, and nothing is lost or double."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twinlock.crashpoints import CrashPoint

if TYPE_CHECKING:
    from tests.faults.conftest import Home

ANN, BOB = "ann@acme.example", "bob@acme.example"

BUS = frozenset(
    {
        CrashPoint.BEFORE_DISPATCH,
        CrashPoint.AFTER_DISPATCH,
        CrashPoint.AFTER_MARK,
        CrashPoint.BEFORE_ACK,
        CrashPoint.AFTER_ACK,
        CrashPoint.AFTER_CLAIM,
    }
)
PURGE = frozenset(point for point in CrashPoint if point.value.startswith("purge."))  # see test_purge.py
BROKER = frozenset({CrashPoint.AFTER_COPY, CrashPoint.AFTER_BURIAL, CrashPoint.AFTER_PUT_BACK})  # of a fleet alone
RECOVERY = frozenset(point for point in CrashPoint if point.value.startswith("recovery."))  # see test_recovery.py


@dataclass(frozen=True)
class Command:
    """Hold a command, the times at which it is killed at each crash point, and the points that it never comes to."""

    words: list[str]
    times: tuple[int, ...]
    never: frozenset[CrashPoint] = frozenset()


COMMANDS = {
    "import": Command(["mailbox", "import", BOB], (1, 2), BUS | {CrashPoint.SWEEP_BEFORE_DELETE}),
    "assign": Command(["policy", "assign", "acme/p", "--mailbox", ANN], (1, 3)),
    "move": Command(["mailbox", "move", ANN], (1, 3)),
    "roll": Command(["policy", "refresh", "service", "--new-policy-key"], (2,)),
}
CASES = [
    pytest.param(name, point, number, id=f"{name}-{point.name.lower()}-{number}")
    for name, command in COMMANDS.items()
    for point in CrashPoint
    if point not in command.never | BROKER | RECOVERY | PURGE
    for number in command.times
]


@pytest.fixture(scope="session")
def littered(filled: "Home", mail: Path, tmp_path_factory: pytest.TempPathFactory) -> "Home":
    """Return a home in which killed imports left three objects and a fourth intent, all of them expired."""
    home = filled.copy(tmp_path_factory.mktemp("littered") / "home")
    lone = tmp_path_factory.mktemp("lone")
    for number in range(4):
        (lone / f"{number}.eml").write_bytes((mail / "11.eml").read_bytes() + bytes([number]))
    home.crash(
        "object.after-write-before-switch",
        3,
        "mailbox",
        "import",
        BOB,
        str(lone),
        TWINLOCK_CONTENT__INTENT_SECONDS="0",
        TWINLOCK_CONTENT__BATCH_BYTES="5000000",
    )

    assert 4 == len(home.column("SELECT name FROM object_intents"))
    return home


@pytest.mark.parametrize(("name", "point", "number"), CASES)
def test_killed(littered: "Home", mail: Path, tmp_path: Path, name: str, point: CrashPoint, number: int) -> None:
    """Killed at any crash point and started again: all mail is there once, effects happened once, nothing is left."""
    home, words = littered.copy(tmp_path / "home"), COMMANDS[name].words
    if name == "import":
        words = [*words, str(mail)]

    home.crash(point, number, *words)
    if name == "import" or number == 1:
        home.ask(*words)
    home.rest()
    everything = Counter(path.read_bytes() for path in mail.iterdir())
    home.assert_sound({ANN: everything, BOB: everything if name == "import" else Counter()})
    assert_once(home, name)


def assert_once(home: "Home", name: str) -> None:
    """Check that every request that was taken had its effect once; an assignment to the same policy has none."""
    (generation,) = home.column(f"SELECT newest_generation FROM containers WHERE name = '{ANN}'")  # noqa: S608  # ours
    taken = len(home.column("SELECT id FROM requests WHERE type NOT LIKE '%policy.requested%' AND outcome = 'done'"))
    assigned = name == "assign" and taken > 0

    assert generation == 1 + (min(taken, 1) if name == "assign" else taken)
    assert assigned == (home.ask("mailbox", "show", ANN)["data_encryption_policy_id"] is not None)


def test_import_adds_what_is_missing(home: "Home", mail: Path) -> None:
    """An import killed after its first batches, and repeated, adds exactly the missing messages."""
    words = ["mailbox", "import", BOB, str(mail)]

    home.crash(CrashPoint.AFTER_COMMIT, 7, *words)
    there = home.exported(BOB)
    again = home.ask(*words)
    everything = Counter(path.read_bytes() for path in mail.iterdir())
    missing = everything - there

    assert there
    assert there == everything & there
    assert {"imported": missing.total(), "skipped": there.total(), "bytes": sum(map(len, missing.elements()))} == again
    assert {"imported": 0, "skipped": everything.total(), "bytes": 0} == home.ask(*words)
    home.assert_sound({ANN: everything, BOB: everything})
