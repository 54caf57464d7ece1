"""What most tests need: a clock that stands still, and stores on a fresh, migrated database."""

import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.servers.postgres import Postgres, migrate, run
from twinlock.clock import ManualClock
from twinlock.crashpoints import disarm
from twinlock.store.engine import open_engine
from twinlock.store.unit import Store

pytest_plugins = ["tests.servers.fixtures"]

# A busy machine must not fail a test: nothing here promises a time.
settings.register_profile("twinlock", deadline=None)
settings.load_profile("twinlock")

# Who is started in the background of a script ignores interrupts, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

OpenStore = Callable[[], Awaitable[Store]]
DATABASES = ["sqlite", "postgresql"]

# Many cases of what is decided without a database, each with a store beside it: one kind of database tells it all.
SQLITE_ONLY = frozenset({"test_every_cell.py"})  # what it asks of the database others ask of both kinds
_NUMBERS = count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run whatever needs a database on every kind of it."""
    if "database_kind" in metafunc.fixturenames:
        kinds = DATABASES[:1] if metafunc.definition.path.name in SQLITE_ONLY else DATABASES
        metafunc.parametrize("database_kind", kinds, indirect=True)


def _sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that moves only when it is told to."""
    return ManualClock()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database that was migrated once: a copy of it takes a hundredth of the time."""
    path = tmp_path_factory.mktemp("template") / "twinlock.db"
    run(migrate(_sqlite_url(path)))
    return path


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """Return which kind of database the test runs on; `pytest_generate_tests` chooses."""
    return str(request.param)


@pytest.fixture
def empty_database(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database in which nothing is."""
    if database_kind == "sqlite":
        yield _sqlite_url(tmp_path / "empty.db")
    else:
        yield from _on_postgres(request.getfixturevalue("postgres"), "template1")


@pytest.fixture
def database(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a fresh, migrated database, on every kind in turn."""
    if database_kind == "sqlite":
        path = tmp_path / "twinlock.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield _sqlite_url(path)
    else:
        template = request.getfixturevalue("postgres_template")
        yield from _on_postgres(request.getfixturevalue("postgres"), template)


@pytest.fixture
def postgres_url(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """Return the URL of a fresh, migrated database on PostgreSQL, for what is true of it alone."""
    yield from _on_postgres(postgres, postgres_template)


def _on_postgres(cluster: Postgres, template: str) -> Iterator[str]:
    name = f"test_{next(_NUMBERS)}"
    yield cluster.create(name, template)
    cluster.drop(name)


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """Open a fresh, migrated database below the store."""
    opened = open_engine(database)
    yield opened
    await opened.dispose()


@pytest.fixture
async def open_store(database: str, clock: ManualClock) -> AsyncIterator[OpenStore]:
    """Open stores on the same database, as processes that follow each other would."""
    opened: list[Store] = []

    async def _open_another() -> Store:
        opened.append(Store(open_engine(database), clock, "urn:twinlock:test"))
        return opened[-1]

    yield _open_another
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """Open a store on a fresh, migrated database."""
    return await open_store()


@pytest.fixture(autouse=True)
def _no_crash_point_left() -> Iterator[None]:
    yield
    disarm()
