"""Homes to break, commands in this process and in others, and what has to hold of a home after anything."""

import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from obstore.store import LocalStore
from sqlalchemy import select

from cli.main import run
from cli.progress import NoBar
from cli.settings import load_settings
from cli.settling import settle, settling_for
from cli.wiring import Parts, open_parts, open_store
from twinlock.clock import ManualClock
from twinlock.content.objects import Objects
from twinlock.content.sweeper import Sweeper
from twinlock.custody.audit.log import is_genuine
from twinlock.store.tables.custody import audit_entries
from twinlock.store.unit import Cause

Result = TypeVar("Result")

PROGRAM = (str(Path(sys.executable).with_name("twinlock")),)
DRIVER = (sys.executable, str(Path(__file__).with_name("crash_driver.py")))
PATIENCE = 120.0  # seconds after which something that was waited for counts as stuck

# Small steps: a few mails are many transactions.
SETTINGS = """
[content]
batch_items = 4
batch_bytes = 500_000
stream_chunk = 65536
sweep_batch = 1

[workers]
assign_batch = 1
sweep_seconds = 0.02
reconcile_seconds = 0.05
"""

_ITEMS = "(SELECT count(*) FROM items i WHERE i.container_id = k.container_id AND i.generation = k.generation)"
_KEYS = f"""
SELECT c.name, k.item_count, {_ITEMS} AS items
FROM container_keys k JOIN containers c ON c.id = k.container_id
ORDER BY c.name
"""  # noqa: S608  # all of it is written here
_LEFT = "SELECT correlation FROM outbox UNION SELECT correlation FROM deliveries UNION SELECT correlation FROM jobs"


@dataclass(frozen=True)
class Ran:
    """Hold what a command came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Return the one JSON document on standard output."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Home:
    """Run commands on one home, and look into it past the program."""

    path: Path

    def run(self, *arguments: str) -> Ran:
        """Run a command in this process, which takes a tenth of the time."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([*arguments, "--home", str(self.path)])
        return Ran(code, out.getvalue(), err.getvalue())

    def ask(self, *arguments: str) -> Any:
        """Run a command that succeeds and return its document."""
        ran = self.run(*arguments, "--json")

        assert 0 == ran.code, ran
        assert all(line.startswith("warning: ") for line in ran.err.splitlines()), ran
        return ran.document

    def refused(self, *arguments: str, code: int = 1) -> str:
        """Run a command that fails, in the program's own grammar; return what it said."""
        ran = self.run(*arguments)

        assert code == ran.code, ran
        return said(ran)

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        return _start((*PROGRAM, *arguments, "--home", str(self.path)), env)

    def limited(self, kib: int, *arguments: str) -> Ran:
        """Run a command that can't write to any file beyond so many KiB, as on a full disk."""
        script = f'ulimit -f {kib} && exec "$@"'
        return finished(_start(("bash", "-c", script, "bash", *PROGRAM, *arguments, "--home", str(self.path)), {}))

    def crash(self, point: str, number: int, *arguments: str, **env: str) -> None:
        """Run a command that kills itself when it comes to a crash point for the given time."""
        ran = finished(self._driven("SIGKILL", point, number, arguments, env))

        assert -signal.SIGKILL == ran.code, ran

    def stopped(self, point: str, number: int, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Return a command that stands still after a crash point, with all that it holds but the database."""
        process = self._driven("SIGSTOP", point, number, arguments, env)
        _, status = os.waitpid(process.pid, os.WUNTRACED)

        assert os.WIFSTOPPED(status), "the command ended before it came to the crash point"
        return process

    def _driven(
        self, sign: str, point: str, number: int, arguments: tuple[str, ...], env: dict[str, str]
    ) -> subprocess.Popen[str]:
        return _start((*DRIVER, sign, point, str(number), *arguments, "--home", str(self.path)), env)

    def exported(self, address: str, *options: str) -> Counter[bytes]:
        """Export a mailbox and return the bytes of its items."""
        target = self.path.with_name("export")
        shutil.rmtree(target, ignore_errors=True)
        self.ask("mailbox", "export", address, str(target), *options)
        return contents(target)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Read from the database, past the program."""
        with contextlib.closing(sqlite3.connect(self.path / "twinlock.db")) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    def column(self, query: str) -> list[Any]:
        """Read the first column of a query."""
        return [next(iter(row.values())) for row in self.rows(query)]

    def objects(self) -> set[str]:
        """Name every file in the object folder, leftovers of uploads included."""
        folder = self.path / "objects"
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    def copy(self, path: Path) -> "Home":
        """Copy the whole home."""
        return Home(Path(shutil.copytree(self.path, path)))

    def within(self, work: Callable[[Parts], Awaitable[Result]]) -> Result:
        """Do something with the parts of the home, in one process."""

        async def opened() -> Result:
            async with open_parts(load_settings(self.path)) as parts:
                return await work(parts)

        return _run(opened())

    def rest(self) -> None:
        """Run the workers, as any command does that waits, until nothing is left to do."""

        async def settled(parts: Parts) -> None:
            while left := self.column(_LEFT):
                await settle(settling_for(parts), parts, left[0], PATIENCE, NoBar())

        self.within(settled)

    def sweep(self, seconds: float) -> None:
        """Sweep the objects, until nothing is due, as if so many seconds had passed."""

        async def work() -> None:
            settings, clock = load_settings(self.path), ManualClock(datetime.now(UTC))
            clock.advance(seconds)
            async with open_store(settings, clock) as store:
                objects = Objects(LocalStore(settings.objects_folder), store, settings.content)
                sweeper = Sweeper(store, objects, settings.content)
                while await sweeper.sweep(Cause("sweep")) or self.column("SELECT name FROM object_intents"):
                    pass

        _run(work())

    def audit(self) -> list[Any]:
        """Return the rows of the audit log."""

        async def read(parts: Parts) -> list[Any]:
            async with parts.store.read() as reader:
                return list(await reader.rows(select(audit_entries).order_by(audit_entries.c.sequence)))

        return self.within(read)

    def assert_quiet(self) -> None:
        """Check that nothing waits to be done, and that nothing was given up."""
        assert [] == self.column(_LEFT)
        assert [] == self.rows("SELECT consumer, type, reason FROM dead_letters")
        assert [] == self.rows("SELECT worker, slot FROM wake_slots WHERE event_id IS NOT NULL")
        assert [] == self.rows("SELECT type FROM requests WHERE outcome IS NULL")

    def assert_exact(self, expected: dict[str, Counter[bytes]]) -> None:
        """Check that every mailbox holds these items once, under one key, and that every count is right."""
        names = sorted(expected)
        exact = [{"name": name, "item_count": (n := expected[name].total()), "items": n} for name in names]
        counted = [sum(policy["objects_by_key_version"].values()) for policy in self.ask("policy", "list")]

        assert expected == {name: self.exported(name) for name in names}
        assert exact == self.rows(_KEYS)
        assert sum(items.total() for items in expected.values()) == sum(counted)

    def assert_audited(self) -> None:
        """Check that the audit log has no gap and that every entry is as its writer left it."""
        entries, key = self.audit(), (self.path / "secrets" / "audit.key").read_bytes()

        assert list(range(1, len(entries) + 1)) == [entry.sequence for entry in entries]
        assert all(is_genuine(key, entry) for entry in entries)

    def assert_no_orphans(self) -> None:
        """Check, long after, that every object that a row names is there, and no other file."""
        settings = load_settings(self.path).content
        named = set(self.column("SELECT object_name FROM items WHERE object_name IS NOT NULL"))
        self.sweep(settings.intent_seconds + 60)

        assert named | set(self.column("SELECT name FROM superseded_objects")) == self.objects()
        self.sweep(settings.objects_keep + 60)

        assert named == self.objects()

    def assert_sound(self, expected: dict[str, Counter[bytes]]) -> None:
        """Check all that has to hold of a home at rest."""
        self.assert_quiet()
        self.assert_exact(expected)
        self.assert_audited()
        self.assert_no_orphans()
        assert ["ok"] == self.column("PRAGMA integrity_check")
        assert [] == self.rows("PRAGMA foreign_key_check")


def _start(command: tuple[str, ...], env: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **env})


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    with asyncio.Runner() as runner:
        return runner.run(work)


def finished(process: subprocess.Popen[str]) -> Ran:
    """Wait for a command."""
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out, err)


def contents(folder: Path) -> Counter[bytes]:
    """Count the files of a folder by what is in them."""
    return Counter(path.read_bytes() for path in folder.iterdir())


def said(ran: Ran) -> str:
    """Return what a failed command said: one line of what happened, at most one hint, never a traceback."""
    first, *rest = ran.err.splitlines() or [""]

    assert first.startswith("twinlock: "), ran
    assert not first.startswith("twinlock: unexpected "), ran
    assert [] == [line for line in rest if not line.startswith("hint: ")], ran
    assert len(rest) <= 1, ran
    return ran.err


@pytest.fixture(autouse=True)
def _private() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


@pytest.fixture(scope="session")
def mail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of mail: small, empty, identical, above 128 KiB, and above 1 MiB."""
    folder = tmp_path_factory.mktemp("mail")
    block = bytes(range(256)) * 600  # 150 KiB
    bodies = [f"Subject: {number}\n\nhello {number}\n".encode() for number in range(6)]
    bodies += [b"", b""]
    bodies += [b"Subject: twin\n\nthe same\n"] * 3
    bodies += [b"Subject: large\n\n" + block] + [b"Subject: large twin\n\n" + block] * 2
    bodies += [b"Subject: huge\n\n" + block * 8]
    for number, body in enumerate(bodies):
        (folder / f"{number:02}.eml").write_bytes(body)
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Home:
    """Return a home that is not made yet."""
    return Home(tmp_path / "home")


@pytest.fixture(scope="session")
def customer(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home with a tenant, policies p and q with keys in two vaults each, and mailboxes for ann and bob."""
    home = Home(tmp_path_factory.mktemp("customer") / "home")
    home.ask("init")
    (home.path / "twinlock.toml").write_text(SETTINGS)
    home.ask("tenant", "add", "acme")
    for name in ("p", "q"):
        uris = [f"local://{name}1/key", f"local://{name}2/key"]
        for uri in uris:
            home.ask("key", "create", uri)
        keys = [word for uri in uris for word in ("--key", uri)]
        home.ask("policy", "create", "--tenant", "acme", "--name", name, "--workload", "mailbox", *keys)
    for who in ("ann", "bob"):
        home.ask("mailbox", "add", f"{who}@acme.example", "--tenant", "acme")
    return home


@pytest.fixture(scope="session")
def filled(customer: Home, mail: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home with mail in ann's mailbox, and none in bob's."""
    home = customer.copy(tmp_path_factory.mktemp("filled") / "home")
    home.ask("mailbox", "import", "ann@acme.example", str(mail))
    return home


@pytest.fixture
def home(filled: Home, tmp_path: Path) -> Home:
    """Return a copy of the filled home, to be broken."""
    return filled.copy(tmp_path / "home")
