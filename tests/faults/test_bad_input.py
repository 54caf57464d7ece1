"""A hostile person at the keyboard, damaged homes and full disks: a clear refusal, no traceback, nothing half done."""

import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import Home

ANN, BOB = "ann@acme.example", "bob@acme.example"
TABLES = (
    "tenants",
    "policies",
    "containers",
    "container_keys",
    "items",
    "jobs",
    "outbox",
    "deliveries",
    "object_intents",
)
ASSIGNMENT = "twinlock.assignment.requested.v1"
REQUEST: dict[str, Any] = {
    "specversion": "1.0",
    "id": "request-1",
    "source": "urn:somebody",
    "type": ASSIGNMENT,
    "subject": "acme/p",
    "time": "2026-01-01T00:00:00Z",
    "datacontenttype": "application/json",
    "dataschema": f"urn:twinlock:schema:{ASSIGNMENT}",
    "correlationid": "correlation-1",
    "data": {"policy": "acme/p", "mailboxes": [ANN]},
}

WORDS: list[tuple[list[str], int]] = [
    (["tenant", "add", "a\x01b"], 2),
    (["tenant", "add", "\u202eacme"], 2),
    (["tenant", "add", "a" * 5000], 2),
    (["tenant", "add", ""], 2),
    (["tenant", "add", "acme"], 1),
    (["tenant", "show", "\x1b[31mred\x1b[0m"], 1),
    (["tenant", "show", "\udcff"], 2),
    (["mailbox", "add", "ann\udcff@acme.example", "--tenant", "acme"], 2),
    (["mailbox", "add", "a\nb@acme.example", "--tenant", "acme"], 2),
    (["mailbox", "add", ANN, "--tenant", "acme"], 1),
    (["mailbox", "add", "new@acme.example", "--tenant", "nobody"], 1),
    (["mailbox", "show", "a\x00b@acme.example"], 1),
    (["mailbox", "remove", "\udcff"], 2),
    (["mailbox", "list", "--tenant", "\udcff"], 2),
    (["mailbox", "delete", ANN, "\udcff"], 2),
    (["mailbox", "delete", ANN, "nothing"], 1),
    (["mailbox", "items", ANN, "--timeout", "nan"], 2),
    (["mailbox", "export", ANN, "out", "--as", "service:"], 2),
    (["mailbox", "export", ANN, "out", "--as", "service:\udcff"], 2),
    (["policy", "show", "acme/../../etc"], 1),
    (["policy", "assign", "acme/\udcff", "--mailbox", ANN], 2),
    (["policy", "assign", "p" * 300, "--mailbox", ANN], 2),
    (["policy", "assign", "acme/nothing", "--mailbox", ANN], 1),
    (["policy", "assign", "acme/p", "--mailbox", "nobody@acme.example"], 1),
    (["policy", "refresh", "a\x01b"], 2),
    (["key", "create", "local://../key"], 2),
    (["key", "create", "local://p1/../../key"], 2),
    (["key", "create", "local://p1/key"], 1),
    (["key", "create", "local://p1/new", "--expires", "0000-00-00"], 2),
    (["key", "probe", "local://nowhere/key"], 1),
    (["key", "probe", "\udcff"], 2),
    (["vault", "outage", "../p1", "on"], 2),
    (["vault", "outage", "nowhere", "on"], 1),
    (["dlq", "retry", "9" * 30], 2),
    (["worker", "run", "\udcff"], 2),
    (["schema", "export", "/dev/null"], 1),
]

BODIES: dict[str, bytes] = {
    "large": b"x" * 10_000_000,
    "empty": b"",
    "no-text": b"\xff\xfe\x00",
    "no-json": b"hello",
    "array": b"[]",
    "deep": b"[" * 60_000,
    "big-number": b'{"id": ' + b"9" * 5000 + b"}",
    "twice": json.dumps(REQUEST).encode()[:-1] + b', "id": "other"}',
    "surrogate": json.dumps(REQUEST | {"data": {"policy": "acme/p", "mailboxes": ["\ud800@acme.example"]}}).encode(),
    "nul": json.dumps(REQUEST | {"data": {"policy": "\x00", "mailboxes": [ANN]}}).encode(),
    "unknown-type": json.dumps(REQUEST | {"type": "twinlock.something.requested.v1"}).encode(),
    "unknown-version": json.dumps(REQUEST | {"type": ASSIGNMENT.replace("v1", "v9")}).encode(),
    "unknown-policy": json.dumps(REQUEST | {"data": {"policy": "acme/nothing", "mailboxes": [ANN]}}).encode(),
    "fact": json.dumps(
        REQUEST
        | {
            "type": "twinlock.assignment.woken.v1",
            "dataschema": "urn:twinlock:schema:twinlock.assignment.woken.v1",
            "data": {"slot": 0},
        }
    ).encode(),
}


def state(home: "Home") -> dict[str, Any]:
    """Return how much there is of everything; a refusal leaves it as it was."""
    counts = {table: home.column(f"SELECT count(*) FROM {table}") for table in TABLES}  # noqa: S608  # ours
    return {**counts, "objects": home.objects(), "vaults": sorted((home.path / "vaults").rglob("*.json"))}


@pytest.fixture
def unchanged(home: "Home") -> Iterator["Home"]:
    """Lend a home that must be afterwards as it was."""
    before = state(home)
    yield home

    assert before == state(home)


@pytest.mark.parametrize(("words", "code"), WORDS, ids=lambda value: ascii(value)[:60])
def test_words(unchanged: "Home", words: list[str], code: int) -> None:
    """Names with odd bytes, wrong numbers and things that do not exist are refused in the program's own words."""
    assert unchanged.refused(*words, code=code).isprintable() is False  # line feeds alone
    assert all(line.isprintable() for line in unchanged.refused(*words, code=code).splitlines())


@pytest.mark.parametrize("name", BODIES)
def test_publish(unchanged: "Home", tmp_path: Path, name: str) -> None:
    """What is no request, from whoever it comes, is refused and reaches nobody."""
    path = tmp_path / "request.json"
    path.write_bytes(BODIES[name])

    unchanged.refused("publish", str(path))
    assert [] == unchanged.column("SELECT reason FROM dead_letters")


def test_publish_twice(home: "Home", tmp_path: Path) -> None:
    """One request published twice has its effect once; another one under the same id is refused."""
    path = tmp_path / "request.json"
    path.write_text(json.dumps(REQUEST))
    first, again = home.ask("publish", str(path)), home.ask("publish", str(path))
    path.write_text(json.dumps(REQUEST | {"data": {"policy": "acme/q", "mailboxes": [ANN]}}))
    said = home.refused("publish", str(path))

    assert first == again
    assert "another body" in said
    assert [2] == home.column("SELECT newest_generation FROM containers WHERE name = 'ann@acme.example'")


def strange_paths(folder: Path) -> dict[str, Path]:
    """Make paths of every kind that is not mail."""
    os.mkfifo(folder / "fifo")
    (folder / "with-fifo").mkdir()
    os.mkfifo(folder / "with-fifo" / "mail.eml")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "noise").write_bytes(bytes(range(256)) * 100)
    (folder / "empty").mkdir()
    names = ("fifo", "with-fifo", "loop", "noise", "empty", "missing", os.fsdecode(b"\xff"), "noise/below")
    devices = ("/dev/zero", "/dev/full", "/proc/self/mem")
    return {name: folder / name for name in names} | {device: Path(device) for device in devices}


def test_import_of_no_mail(unchanged: "Home", tmp_path: Path) -> None:
    """A pipe, a device, a loop, noise, an empty folder or nothing at all is not imported, and nobody waits for it."""
    for path in strange_paths(tmp_path).values():
        unchanged.refused("mailbox", "import", BOB, str(path))


def test_publish_of_no_file(unchanged: "Home", tmp_path: Path) -> None:
    """A folder, a device, a loop or nothing at all is not published."""
    paths = strange_paths(tmp_path)
    for name in ("empty", "loop", "noise", "missing", "/dev/zero", "/proc/self/mem"):
        unchanged.refused("publish", str(paths[name]))


@pytest.mark.parametrize("form", ["files", "maildir", "mbox"])
def test_export_elsewhere(unchanged: "Home", tmp_path: Path, form: str) -> None:
    """An export to a place that is taken, or can't be, is refused and leaves nothing there."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    for target in (
        tmp_path / "file",
        tmp_path / "folder",
        tmp_path / "file" / "below",
        Path("/proc/out"),
        Path("/dev/null"),
    ):
        unchanged.refused("mailbox", "export", ANN, str(target), "--format", form)

    assert "mine" == (tmp_path / "file").read_text()
    assert ["mine"] == [path.name for path in (tmp_path / "folder").iterdir()]


@pytest.mark.parametrize(
    "words", [["init"], ["status"], ["mailbox", "list", "--tenant", "acme"], ["worker", "run", "--all"]]
)
def test_no_home(bare: "Home", tmp_path: Path, words: list[str]) -> None:
    """A file, a device, a place in /proc or somebody's folder is no home, and is left as it is."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    for place in (
        tmp_path / "file",
        tmp_path / "file" / "below",
        tmp_path / "mine",
        Path("/dev/null"),
        Path("/proc/home"),
    ):
        type(bare)(place).refused(*words)

    assert "mine" == (tmp_path / "file").read_text()
    assert ["file"] == [path.name for path in (tmp_path / "mine").iterdir()]


def database(home: "Home") -> Path:
    """Return the database file, with nothing beside it."""
    for suffix in ("-wal", "-shm"):
        home.path.joinpath(f"twinlock.db{suffix}").unlink(missing_ok=True)
    return home.path / "twinlock.db"


def garble(home: "Home", start: int) -> None:
    """Replace the database from some byte on."""
    path = database(home)
    whole = path.read_bytes()
    path.write_bytes(whole[:start] + bytes(range(1, 251)) * (len(whole) // 250))


def replace_by_folder(path: Path) -> None:
    """Put a folder where a file was."""
    path.unlink(missing_ok=True)
    path.mkdir()


def replace_by_file(path: Path) -> None:
    """Put a file where a folder was."""
    shutil.rmtree(path)
    path.write_text("mine")


def make_newer(home: "Home") -> None:
    """Have a later program migrate the database to what this one can't work on."""
    with closing(sqlite3.connect(database(home), isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE shape SET oldest = '9998'")


DAMAGE: dict[str, tuple[Callable[["Home"], object], str, int]] = {
    "no-sqlite": (lambda home: database(home).write_bytes(b"hello" * 1000), "database can't be used", 1),
    "garbled": (lambda home: garble(home, 100), "database can't be used", 1),
    "truncated": (lambda home: os.truncate(database(home), 5000), "database can't be used", 1),
    "database-folder": (lambda home: replace_by_folder(database(home)), "database can't be used", 1),
    "newer": (make_newer, "unknown revision 9999", 1),
    "no-audit-key": (lambda home: (home.path / "secrets" / "audit.key").unlink(), "audit.key is missing", 1),
    "no-checkpoint-key": (
        lambda home: (home.path / "secrets" / "audit-checkpoint.key").unlink(),
        "audit-checkpoint.key is missing",
        1,
    ),
    "short-audit-key": (
        lambda home: (home.path / "secrets" / "audit.key").write_bytes(b"x"),
        "audit.key is damaged",
        1,
    ),
    "objects-file": (lambda home: replace_by_file(home.path / "objects"), "objects: file exists", 1),
    "settings-noise": (lambda home: (home.path / "twinlock.toml").write_bytes(b"\xff="), "twinlock.toml", 2),
    "settings-wrong": (
        lambda home: (home.path / "twinlock.toml").write_text("brokr = 1"),
        "brokr: is not a setting",
        2,
    ),
    "settings-folder": (lambda home: replace_by_folder(home.path / "twinlock.toml"), "twinlock.toml", 2),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_home(home: "Home", tmp_path: Path, mail: Path, name: str) -> None:
    """A home with a damaged, missing or foreign part is refused by every command, which names the part."""
    damage, said, code = DAMAGE[name]
    damage(home)
    for words in (
        ["status"],
        ["init"],
        ["mailbox", "show", ANN],
        ["mailbox", "import", BOB, str(mail)],
        ["mailbox", "export", ANN, str(tmp_path / "out")],
        ["policy", "assign", "acme/p", "--mailbox", ANN],
        ["worker", "run", "--all"],
    ):
        assert said in home.refused(*words, code=code), words


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda vault: (vault / "key.json").write_bytes(b"\x00noise")])
def test_lost_vaults(home: "Home", mail: Path, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """With both vaults of a policy lost or damaged nobody is served, and nothing but that policy is concerned."""
    home.ask("policy", "assign", "acme/p", "--mailbox", ANN)
    for vault in ("p1", "p2"):
        damage(home.path / "vaults" / vault)
    for words in (
        ["mailbox", "export", ANN, str(tmp_path / "out")],
        ["mailbox", "export", ANN, str(tmp_path / "out"), "--as", "service:index"],
        ["mailbox", "import", ANN, str(mail)],
        ["mailbox", "move", ANN],
        ["policy", "refresh", "acme/p"],
    ):
        home.refused(*words)

    assert home.ask("mailbox", "import", BOB, str(mail))["imported"] > 0


def test_lost_objects(home: "Home", tmp_path: Path) -> None:
    """An export that misses an object says that something stored is gone."""
    shutil.rmtree(home.path / "objects")

    assert "something stored is gone" in home.refused("mailbox", "export", ANN, str(tmp_path / "out"))


@pytest.mark.parametrize("kib", [100, 1000])
def test_full_disk(home: "Home", mail: Path, kib: int) -> None:
    """An import to a full disk, for the database or for objects, fails, and goes on when there is room."""
    everything = Counter(path.read_bytes() for path in mail.iterdir())
    full = home.limited(kib, "mailbox", "import", BOB, str(mail))
    there = home.column(
        "SELECT count(*) FROM items i JOIN containers c ON c.id = i.container_id WHERE c.name = 'bob@acme.example'"
    )
    again = home.ask("mailbox", "import", BOB, str(mail))

    assert 1 == full.code
    assert full.err.startswith("twinlock: ")
    assert "unexpected" not in full.err
    assert "Traceback" not in full.err
    assert [again["skipped"]] == there
    home.assert_sound({ANN: everything, BOB: everything})
