"""A whole installation of one's own: broker, database, home, logins, replicas, and what has to hold of it at rest."""

import asyncio
import contextlib
import io
import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from cli.main import run
from cli.settings import load_settings
from cli.wiring import Parts, open_parts
from events.amqp import access
from tests.fleet.replica import KILLED, PROGRAM, Replica, crashing
from tests.servers.depths import depths
from tests.servers.postgres import Postgres
from tests.servers.postgres import run as run_async
from tests.servers.rabbitmq import RabbitNode
from twinlock.store.roles import role
from workers.roster import ROSTER

Result = TypeVar("Result")

WORKERS = tuple(ROSTER)
PATIENCE = 40.0  # seconds after which something that was waited for counts as stuck
QUICK = 2  # seconds instead of the heartbeat's 10 and a statement's 60: what is half-open is found while a test waits
_POLL = 0.05
# Small steps: a few mails are many transactions.
_SETTINGS = """
[content]
batch_items = 4
[workers]
assign_batch = 5
reconcile_seconds = 0.2
sweep_seconds = 5.0
"""
_UNDER_WAY = """
SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM jobs)
  + (SELECT count(*) FROM requests WHERE outcome IS NULL)
  + (SELECT count(*) FROM wake_slots WHERE event_id IS NOT NULL)
"""
_KEYS = """
SELECT c.name, k.item_count, k.generation = c.newest_generation AS newest, (SELECT count(*) FROM items i
    WHERE i.container_id = k.container_id AND i.generation = k.generation) AS items
FROM container_keys k JOIN containers c ON c.id = k.container_id ORDER BY c.name
"""
# As if the time of every lease, pause and retry that the database knows had passed.
_LAPSE = (
    "UPDATE outbox SET lease_until = now(), not_before = now()",
    "UPDATE jobs SET lease_until = now() WHERE lease_until IS NOT NULL",
    "UPDATE jobs SET not_before = now()",
    "UPDATE wake_slots SET since = now() - interval '1 day' WHERE event_id IS NOT NULL",
)


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
class Detours:
    """Hold the ports of proxies before broker and database."""

    broker: int
    database: int
    quick: int = QUICK


class Fleet:
    """Hold an installation on servers of one's own, without replicas at first."""

    def __init__(
        self, folder: Path, node: RabbitNode, cluster: Postgres, database: str, settings: str = _SETTINGS
    ) -> None:
        self.home = folder / "home"
        self.node = node  # of the broker: the one to ask, where there are several
        self._at = node.port
        self.cluster = cluster
        self.replicas: list[Replica] = []
        self._folder = folder
        self._database = database
        self._url = cluster.create(database)
        self.vhost = node.vhost()
        self._numbers = count(1)
        self.detours: Detours | None = None
        self.operator: dict[str, str] = {}  # what commands find in their environment besides
        self.program: tuple[str, ...] = (PROGRAM,)
        self._logins()
        self._initialise(settings)

    def close(self) -> None:
        """Kill every replica and remove what the servers hold of it."""
        for replica in self.replicas:
            replica.kill()
        self.node.drop(self.vhost)
        self.cluster.drop(self._database)

    # commands

    def run(self, *arguments: str, **env: str) -> Ran:
        """Run a command of the operator in this process, which takes a tenth of the time."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment("operator", **(self.operator | env)).items():
                patch.setenv(name, value)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run(list(arguments))
        return Ran(code, out.getvalue(), err.getvalue())

    def ask(self, *arguments: str, **env: str) -> Any:
        """Run a command that succeeds and return its document."""
        ran = self.run(*arguments, "--json", **env)

        assert (0, "") == (ran.code, ran.err), ran
        return ran.document

    def within(self, work: Callable[[Parts], Awaitable[Result]]) -> Result:
        """Do something with the parts that a command has."""

        async def opened() -> Result:
            async with open_parts(load_settings()) as parts:
                return await work(parts)

        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment("operator").items():
                patch.setenv(name, value)
            return run_async(opened())

    def environment(self, login: str, **more: str) -> dict[str, str]:
        """Return the environment of a process with this login."""
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "TWINLOCK_HOME": str(self.home),
            "TWINLOCK_SECRETS": str(self.secrets(login)),
            **more,
        }

    @property
    def owner(self) -> dict[str, str]:
        """Return what makes a command the owner of the database."""
        return {"TWINLOCK_DATABASE": self._url}

    def secrets(self, login: str) -> Path:
        """Return the folder with the secrets of a login."""
        return self._folder / "secrets" / login

    # replicas

    def start(self, worker: str, program: Sequence[str] = (), **env: str) -> Replica:
        """Start one replica; it is not waited for."""
        log = self._folder / f"{worker}.{next(self._numbers)}.log"
        replica = Replica(worker, log, self.environment(worker, **self._detour(worker), **env), program or self.program)
        self.replicas.append(replica)
        return replica

    def _detour(self, worker: str) -> dict[str, str]:
        if self.detours is None:
            return {}
        broker, database = ((self.secrets(worker) / name).read_text() for name in ("broker", "database"))
        by_broker = _by_way_of(broker, self._at, self.detours.broker)
        by_database = _by_way_of(database, self.cluster.port, self.detours.database)
        return {
            "TWINLOCK_BROKER": f"{by_broker}?heartbeat={self.detours.quick}",
            "TWINLOCK_DATABASE": f"{by_database}?command_timeout={self.detours.quick}",
        }

    def of(self, worker: str) -> list[Replica]:
        """Return the running replicas of a worker."""
        return [each for each in self.replicas if each.worker == worker and each.running]

    def staff(self, each: int = 2, patience: float = PATIENCE) -> None:
        """Start what is missing to so many replicas of every worker, and wait until all are ready."""
        self.replicas = [replica for replica in self.replicas if replica.running]
        for worker in WORKERS:
            for _ in range(each - len(self.of(worker))):
                self.start(worker)
        self.all_ready(patience)

    def all_ready(self, patience: float = PATIENCE) -> None:
        """Wait until every replica takes work; one that died meanwhile fails the test."""
        self.until(lambda: all(replica.ready for replica in self.replicas), patience)

        assert all(replica.running for replica in self.replicas), self.replicas

    def leave(self, worker: str) -> None:
        """Kill every replica of a worker."""
        for replica in self.of(worker):
            replica.kill()
            self.ended(replica)

    def dismiss(self) -> None:
        """Kill every replica."""
        for worker in WORKERS:
            self.leave(worker)

    def crash(self, worker: str, point: str, number: int, **env: str) -> None:
        """Have a lone replica of a worker kill itself at a crash point; it finds there what was asked before."""
        replica = self.start(worker, crashing(point, number), **env)

        assert self.ended(replica) == KILLED, replica

    def stop(self, replica: Replica, seconds: float = 60.0) -> int:
        """Tell a replica to stop, and return its exit code; `seconds` are its grace period."""
        assert replica.running, replica  # nobody told it to end

        replica.tell(signal.SIGTERM)
        return self.ended(replica, seconds)

    def ended(self, replica: Replica, seconds: float = PATIENCE) -> int:
        """Wait until a replica has ended, and return its exit code."""
        code = replica.ended(seconds)
        replica.kill()  # nothing is left of it but its lifeline's pipe
        self.replicas.remove(replica)
        return code

    # what is in the database and in the broker

    def value(self, query: str) -> Any:
        """Read one value from the database, past the program."""
        return self.cluster.execute(query, self._database)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Read rows from the database, past the program."""
        found: list[dict[str, Any]] = json.loads(self.value(f"SELECT coalesce(json_agg(t), '[]') FROM ({query}) t"))  # noqa: S608  # ours
        return found

    def lapse(self) -> None:
        """Let the time pass that the database holds anything back for."""
        for change in _LAPSE:
            self.value(change)

    def depths(self) -> dict[str, int]:
        """Return the queues in which a message waits, streams apart."""
        return run_async(depths(self.node, self.vhost))

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """Have every step wait for the end of the block before it commits."""
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            connection = runner.run(asyncpg.connect(self._url.replace("+asyncpg", ""), timeout=30))
            try:
                runner.run(connection.execute("BEGIN; LOCK TABLE jobs IN EXCLUSIVE MODE"))
                yield
            finally:
                runner.run(connection.close())

    @contextlib.contextmanager
    def limited(self, queue: str, most: int) -> Iterator[None]:
        """Have a queue take nothing more while so many messages wait in it."""
        policy = f"/policies/{self.vhost.name}/limited"
        limit = {"pattern": f"^{re.escape(queue)}$", "definition": {"max-length": most}, "apply-to": "queues"}
        self.node.api("PUT", policy, limit)
        try:
            self.until(lambda: self.node.api("GET", f"/queues/{self.vhost.name}/{queue}").get("policy") == "limited")
            yield
        finally:
            self.node.api("DELETE", policy)

    def denied(self) -> list[str]:
        """Return what PostgreSQL kept a worker from doing, be it in the background."""
        users = tuple(role(self._database, worker) for worker in WORKERS)
        said = [line for line in self.cluster.said if line.startswith(users)]
        return [
            f"{error} / {statement}"
            for error, statement in pairwise(said)
            if "permission denied" in error or "row-level security" in error
        ]

    # waiting

    def until(self, happened: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until something happened."""
        deadline = time.monotonic() + patience
        while not happened():
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not happen: {self._under_way()} {self.replicas}")
            time.sleep(_POLL)

    def _under_way(self) -> dict[str, Any]:
        tables = ("outbox", "jobs", "requests WHERE outcome IS NULL", "wake_slots WHERE event_id IS NOT NULL")
        return {table: self.rows(f"SELECT * FROM {table}") for table in tables} | {"queues": self.depths()}  # noqa: S608  # ours

    def quiet(self, patience: float = PATIENCE) -> None:
        """Wait until nothing is under way."""
        self.until(lambda: not self.value(_UNDER_WAY) and not self.depths(), patience)

    def in_work(self, most: int = 1000) -> None:
        """Wait until a step of something has been done, and not all."""
        self.until(lambda: bool(self.value(f"SELECT count(*) FROM jobs WHERE done > 0 AND done < {most}")))  # noqa: S608

    # what has to hold

    def exported(self, address: str) -> Counter[bytes]:
        """Export a mailbox and return the bytes of its items."""
        target = self._folder / "export"
        shutil.rmtree(target, ignore_errors=True)
        self.ask("mailbox", "export", address, str(target))
        return Counter(path.read_bytes() for path in target.iterdir())

    def generations(self) -> dict[str, int]:
        """Return the newest key generation of every mailbox: one more for everything that was done to it."""
        found = self.rows("SELECT name, newest_generation AS newest FROM containers")
        return {each["name"]: each["newest"] for each in found}

    def assert_sound(self, expected: Mapping[str, Counter[bytes]]) -> None:
        """Wait for quiet, and check that nothing is lost, double, dead, waiting or deaf."""
        self.quiet()
        names = sorted(expected)
        totals = {name: expected[name].total() for name in names}
        exact = [{"name": name, "item_count": n, "newest": True, "items": n} for name, n in totals.items()]
        keys = [row for row in self.rows(_KEYS) if row["name"] in expected]

        assert expected == {name: self.exported(name) for name in names}
        assert exact == keys
        assert [] == self.rows("SELECT consumer, type, reason FROM dead_letters")
        self.all_ready()

    # making it

    def _logins(self) -> None:
        for each in (access.of_administrator(), access.of_operator(), *map(access.of_worker, WORKERS)):
            url = self.node.user(self.vhost, each.login, each.configure, each.write, each.read)
            folder = self.secrets(each.login)
            folder.mkdir(parents=True)
            (folder / "broker").write_text(url)
        place = ["--host", f"127.0.0.1:{self.cluster.port}", "--name", self._database]
        made = self.ask("database", "roles", str(self._folder / "secrets"), *place)
        self.cluster.load(Path(made["roles"]).read_text(), self._database)

    def _initialise(self, settings: str) -> None:
        administrator = str(self.secrets("administrator"))
        self.ask("init", TWINLOCK_SECRETS=administrator, **self.owner)
        (self.home / "twinlock.toml").write_text(settings)
        self.ask("broker", "declare", TWINLOCK_SECRETS=administrator)
        for name in ("operator", *WORKERS):
            self.ask("worker", "enroll", name, "--login", name, "--into", str(self.secrets(name)), **self.owner)


def _by_way_of(url: str, port: int, proxy: int) -> str:
    return url.replace(f"@127.0.0.1:{port}/", f"@127.0.0.1:{proxy}/")


def mail_in(folder: Path, count: int, word: str = "hello") -> Counter[bytes]:
    """Fill a folder with small mail and return its bytes."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:03}.eml").write_bytes(f"Subject: {number}\n\n{word} {number}\n".encode() * 3)
    return Counter(path.read_bytes() for path in folder.iterdir())
