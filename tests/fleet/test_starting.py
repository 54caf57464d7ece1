"""`worker run` where something is missing: what passes is waited for, what does not is told in one line."""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR, TIK_CACHE_REFRESHER
from tests.fleet.installation import Fleet, Ran
from tests.fleet.replica import gated
from tests.servers.rabbitmq import Vhost

Faulty: TypeAlias = Callable[[Fleet, Path], dict[str, str]]


def attempt(fleet: Fleet, worker: str, *options: str, **env: str) -> Ran:
    """Run a worker that ends by itself."""
    return fleet.run("worker", "run", worker, *options, **{**fleet.environment(worker), **env})


def url_of(fleet: Fleet, login: str) -> str:
    return (fleet.secrets(login) / "broker").read_text()


def password_of(fleet: Fleet) -> str:
    return url_of(fleet, DEP_ASSIGNER).split("@")[0].rpartition(":")[2]


@contextmanager
def _bare(fleet: Fleet) -> Iterator[str]:
    """Make a virtual host in which nothing is declared, and return the worker's URL there."""
    bare = Vhost("bare", "")
    fleet.node.api("PUT", "/vhosts/bare")
    try:
        yield fleet.node.user(bare, DEP_ASSIGNER, ".*", ".*", ".*")
    finally:
        fleet.node.api("DELETE", "/vhosts/bare")


def _wrong_password(fleet: Fleet, _folder: Path) -> dict[str, str]:
    return {"TWINLOCK_BROKER": url_of(fleet, DEP_ASSIGNER).replace(password_of(fleet), "hunter2")}


def _wrong_login(fleet: Fleet, _folder: Path) -> dict[str, str]:
    return {"TWINLOCK_BROKER": url_of(fleet, "operator")}


def _no_key(fleet: Fleet, folder: Path) -> dict[str, str]:
    for name in ("broker", "database"):
        shutil.copy(fleet.secrets(DEP_ASSIGNER) / name, folder / name)
    return {"TWINLOCK_SECRETS": str(folder)}


def _stranger(fleet: Fleet, folder: Path) -> dict[str, str]:
    # Another worker's key, under this one's name: as good as one that nobody enrolled.
    shutil.copy(fleet.secrets(MAILBOX_REENCRYPTOR) / f"{MAILBOX_REENCRYPTOR}.key", folder / f"{DEP_ASSIGNER}.key")
    return _no_key(fleet, folder)


def _no_tables(fleet: Fleet, _folder: Path) -> dict[str, str]:
    return {"TWINLOCK_DATABASE": fleet.cluster.create("without_tables")}


def _database_password(fleet: Fleet, _folder: Path) -> dict[str, str]:
    return {"TWINLOCK_DATABASE": fleet.cluster.url("fleet", password="hunter2")}


CASES = [
    pytest.param(_wrong_password, 1, "RabbitMQ at {at} refuses the login dep_assigner", "password", id="password"),
    pytest.param(_wrong_login, 2, "the login operator is not that of dep_assigner", "broker definitions", id="login"),
    pytest.param(_no_key, 1, "dep_assigner.key is missing", "worker enroll dep_assigner", id="no-key"),
    pytest.param(_stranger, 1, "dep_assigner.key is not enrolled", "worker enroll dep_assigner", id="not-enrolled"),
    pytest.param(_no_tables, 1, "is not initialised", "run: twinlock init", id="no-tables"),
    pytest.param(_database_password, 1, "refuses the user or the password", "setting database", id="database"),
]


@pytest.mark.parametrize(("fault", "code", "says", "fix"), CASES)
def test_refused(installation: Fleet, tmp_path: Path, fault: Faulty, code: int, says: str, fix: str) -> None:
    """What does not pass by itself ends a worker with a line that names it and one that mends it, and no secret."""
    ran = attempt(installation, DEP_ASSIGNER, **fault(installation, tmp_path))
    line, hint = ran.err.splitlines()

    assert code == ran.code
    assert says.format(at=f"127.0.0.1:{installation.node.port}") in line
    assert fix in hint
    assert "hunter2" not in ran.err + ran.out


def test_undeclared(installation: Fleet) -> None:
    """Where nobody declared its queue, a worker says so and ends."""
    with _bare(installation) as url:
        ran = attempt(installation, DEP_ASSIGNER, TWINLOCK_BROKER=url)

    assert 1 == ran.code
    assert "there is no queue twinlock.dep_assigner.in" in ran.err
    assert ran.err.endswith("hint: run: twinlock broker declare\n")


def test_no_home(installation: Fleet, tmp_path: Path) -> None:
    """The custodian's worker does not start without the home that has the vaults."""
    ran = attempt(installation, TIK_CACHE_REFRESHER, TWINLOCK_HOME=str(tmp_path))

    assert 1 == ran.code
    assert "audit.key is missing: tik_cache_refresher needs the home with the vaults" in ran.err


def test_unknown(installation: Fleet) -> None:
    """A worker that there is not is a matter of usage, to be run or to be checked."""
    for verb in ("run", "check"):
        ran = installation.run("worker", verb, "nobody")

        assert 2 == ran.code
        assert ran.err.startswith("twinlock: there is no worker 'nobody'\nhint: workers: dep_assigner, ")


def test_taken_port(installation: Fleet) -> None:
    """An address that is taken is named, before the worker begins anything."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = attempt(installation, DEP_ASSIGNER, "--health", at)

    assert 1 == ran.code
    assert ran.err.startswith(f"twinlock: {at} can't be listened on: address already in use\nhint: ")


def test_waits_for_database(fleet: Fleet) -> None:
    """A worker that is started before its database is unready and says why; it begins by itself, or stops when told."""
    fleet.cluster.kill()
    late, stopped = fleet.start(DEP_ASSIGNER), fleet.start(DEP_ASSIGNER)
    nobody = f"nothing answers for PostgreSQL at 127.0.0.1:{fleet.cluster.port}"
    unready = (503, {"ready": False, "checks": {"dep_assigner: database": nobody}})
    fleet.until(lambda: unready == late.asked("/readyz") == stopped.asked("/readyz"))

    assert 0 == fleet.stop(stopped)

    fleet.cluster.start()
    fleet.all_ready()

    assert 0 == fleet.stop(late)


def test_database_goes_meanwhile(fleet: Fleet, tmp_path: Path) -> None:
    """A worker whose database was there, and is gone when it begins, waits for it as if it had not been there."""
    reached, gate = tmp_path / "reached", tmp_path / "gate"
    late = fleet.start(DEP_ASSIGNER, gated(reached, gate))
    fleet.until(reached.exists)
    fleet.cluster.kill()
    gate.touch()
    nobody = f"nothing answers for PostgreSQL at 127.0.0.1:{fleet.cluster.port}"
    fleet.until(lambda: late.asked("/readyz") == (503, {"ready": False, "checks": {"dep_assigner: database": nobody}}))
    fleet.cluster.start()
    fleet.all_ready()

    assert 0 == fleet.stop(late)
