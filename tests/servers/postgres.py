"""A private PostgreSQL cluster: its own data, port and password, in a folder of its own.

Methods block: a test that must not stand still calls them in a thread. PostgreSQL refuses to run as root, so root runs
it as another user; the folder therefore lies outside of pytest's, which nobody else can enter.
"""

import asyncio
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from tests.servers.certificates import Certificates
from tests.servers.process import Process, free_ports
from tests.servers.rabbitmq import ServerMissing
from twinlock.store.engine import open_engine
from twinlock.store.migrate import upgrade

T = TypeVar("T")

USER = "twinlock"
_PLACES = Path("/usr/lib/postgresql")
_VERSIONS = range(15, 18)
_UNPRIVILEGED = ("postgres", "nobody")
_BOOT_SECONDS = 120.0
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_CONF = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 400
shared_buffers = 32MB
dynamic_shared_memory_type = mmap
max_wal_size = 256MB
autovacuum = off
log_min_messages = error
log_line_prefix = '%u '
lc_messages = 'C'
"""
# Whoever comes without TLS finds no rule that lets him in.
_TLS = "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = ''\n"
_ONLY_TLS = "hostssl all all 127.0.0.1/32 scram-sha-256\n"
# Nothing here survives a crash of the machine, and most tests crash nothing at all.
_HASTY = "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n"


class Postgres:
    """Hold one cluster, stopped at first; a `durable` one keeps what it has committed through a kill."""

    def __init__(self, *, durable: bool = False) -> None:
        self._bin = _programs()
        self._user = _owner()
        (self.port,) = free_ports(1)
        self.password = secrets.token_hex(8)
        self._process: Process | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="twinlock-postgres-"))
        try:
            self._initialise(durable)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def url(self, database: str, *, password: str | None = None) -> str:
        """Return the URL of a database as the settings take it."""
        return f"postgresql+asyncpg://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def secure(self, certificates: Certificates) -> None:
        """Have it take connections by TLS alone, from its next start on."""
        for source, name in ((certificates.certificate, "server.crt"), (certificates.key, "server.key")):
            path = self._data / name
            shutil.copyfile(source, path)
            path.chmod(0o600)
            if self._user is not None:
                shutil.chown(path, self._user, _group(self._user))
        with (self._data / "postgresql.auto.conf").open("a") as conf:
            conf.write(_TLS)
        (self._data / "pg_hba.conf").write_text(_ONLY_TLS)

    def start(self) -> None:
        """Start and wait until it answers; what a killed one left running ends by itself meanwhile."""
        until = time.monotonic() + _BOOT_SECONDS
        while not self._try_to_start(until):
            if time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL does not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Disconnect everybody and stop."""
        if self._process is not None:
            # SIGTERM would wait for every client to leave.
            self._process.signal(signal.SIGINT)
            self._process.wait(30.0)
            self.kill()  # nothing is left of it but its lifeline's pipe

    def kill(self) -> None:
        """End it as a crash would; the processes that serve clients notice and go."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def close(self) -> None:
        """Stop for good and remove everything."""
        try:
            self.stop()
        except (ProcessLookupError, subprocess.TimeoutExpired):
            self.kill()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def create(self, database: str, template: str = "template1") -> str:
        """Make a database, as a copy of another one that nobody is connected to; return its URL."""
        self.execute(f"CREATE DATABASE {_named(database)} TEMPLATE {_named(template)} STRATEGY file_copy")
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {_named(database)} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> Any:
        """Run a statement of the administrator and return its first value."""
        return run(self._execute(statement, database))

    @property
    def said(self) -> list[str]:
        """Return the lines of its log, each begun with the user whom it is about."""
        return self._log.read_text(errors="replace").splitlines()

    def load(self, script: str, database: str = "postgres") -> None:
        """Run statements of the administrator, as `psql` would."""
        run(self._load(script, database))

    async def _load(self, script: str, database: str) -> None:
        connection = await asyncpg.connect(self.url(database).replace("+asyncpg", ""), timeout=30)
        try:
            await connection.execute(script)
        finally:
            await connection.close()

    async def _execute(self, statement: str, database: str) -> Any:
        dsn = self.url(database).replace("+asyncpg", "")
        connection = await asyncpg.connect(dsn, timeout=30, command_timeout=60)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _initialise(self, durable: bool) -> None:
        secret = self._folder / "password"
        secret.write_text(self.password)
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            for path in (self._folder, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        options: list[str | Path] = [
            "-D",
            self._data,
            "-U",
            USER,
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "-E",
            "UTF8",
        ]
        command = self._as_owner("initdb", *options, "--locale=C.UTF-8", "--no-sync")
        subprocess.run(command, check=True, capture_output=True, env=_environment(), cwd="/")
        conf = _CONF.format(port=self.port) + ("" if durable else _HASTY)
        (self._data / "postgresql.auto.conf").write_text(conf)

    def _try_to_start(self, until: float) -> bool:
        if self._process is None or not self._process.running:
            self._process = Process(self._as_owner("postgres", "-D", self._data), self._log, _environment())
        while self._process.running and time.monotonic() < until:
            try:
                self.execute("SELECT 1")
            except (OSError, asyncpg.PostgresError):
                time.sleep(0.02)
            else:
                return True
        return False

    def _as_owner(self, program: str, *arguments: str | Path) -> list[str]:
        command = [str(self._bin / program), *map(str, arguments)]
        if self._user is None:
            return command
        return ["setpriv", f"--reuid={self._user}", f"--regid={_group(self._user)}", "--clear-groups", *command]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run something to its end on a loop of its own, and leave the test's loop alone."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(work)


async def migrate(url: str) -> None:
    """Bring a database to its newest shape and leave it."""
    engine = open_engine(url)
    await upgrade(engine)
    await engine.dispose()


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "TZ": "UTC"}


def _owner() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise ServerMissing("PostgreSQL refuses to run as root: add a user postgres, or run the tests as another one")


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _named(database: str) -> str:
    assert _NAME.fullmatch(database), database
    return database


def _programs() -> Path:
    """Find the newest version that is supported: Debian keeps the programs off the PATH."""
    places = [_PLACES / str(version) / "bin" for version in reversed(_VERSIONS)]
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise ServerMissing("the tests need PostgreSQL 15 to 17: install the package postgresql, or run: make servers")
