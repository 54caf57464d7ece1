"""One running fleet for all tests here: each finds it complete and at rest, and leaves it whole."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.fleet.installation import Fleet, mail_in
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitNode, started

_NUMBERS = count(1)
VAULTS = ("left", "right")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here: all of them start servers."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session", autouse=True)
def _private() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Postgres]:
    """Start a PostgreSQL cluster that keeps through a kill what it has committed."""
    running = Postgres(durable=True)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """Start a node for the fleet alone: its virtual host outlives the kills of one test, and stays for the next."""
    with started(tmp_path_factory.mktemp("rabbit-of-the-fleet")) as node:
        yield node


@pytest.fixture(scope="session")
def installation(rabbit: RabbitNode, cluster: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Make a fleet with a tenant whose policy `main` has its keys in two vaults."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), rabbit, cluster, "fleet")
    try:
        fleet.staff()
        fleet.ask("tenant", "add", "acme")
        make_policy(fleet, "main")
        yield fleet
        assert [] == fleet.denied()
    finally:
        fleet.close()


@pytest.fixture
def fleet(installation: Fleet) -> Fleet:
    """Return the fleet with two replicas of every worker, at rest."""
    installation.staff()
    return installation


@pytest.fixture
def boxes(fleet: Fleet, tmp_path: Path) -> dict[str, Counter[bytes]]:
    """Make two mailboxes with mail, under the service policy."""
    return {name: make_mailbox(fleet, name, tmp_path / name, 24) for name in _names(2)}


def _names(many: int) -> list[str]:
    return [f"m{next(_NUMBERS)}@acme.example" for _ in range(many)]


def make_mailbox(fleet: Fleet, name: str, folder: Path, items: int) -> Counter[bytes]:
    """Add a mailbox with so many items and return their bytes."""
    expected = mail_in(folder, items, name)
    fleet.ask("mailbox", "add", name, "--tenant", "acme")
    fleet.ask("mailbox", "import", name, str(folder))
    return expected


def make_policy(fleet: Fleet, name: str, *options: str, workload: str = "mailbox") -> None:
    """Make a policy with keys of its own in two vaults."""
    uris = [f"local://{vault}/{name}" for vault in VAULTS]
    for uri in uris:
        fleet.ask("key", "create", uri)
    keys = [word for uri in uris for word in ("--key", uri)]
    fleet.ask("policy", "create", "--tenant", "acme", "--name", name, "--workload", workload, *keys, *options)


def make_site(fleet: Fleet, name: str, geo: str, folder: Path) -> dict[str, bytes]:
    """Add a site with files and return their bytes by path."""
    expected = {path: os.urandom(size) for path, size in {"notes": 70_000, "none": 0, "deep/er/ß.bin": 200_001}.items()}
    for path, body in expected.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    make_policy(fleet, name, "--geo", geo, workload="site")
    fleet.ask("site", "add", name, "--tenant", "acme", "--geo", geo)
    fleet.ask("site", "import", name, str(folder))
    return expected


def brought_out(fleet: Fleet, name: str, folder: Path) -> dict[str, bytes]:
    """Export a site into a new folder and return the bytes of its files by path."""
    fleet.ask("site", "export", name, str(folder))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
