"""What most tests need: a clock that stands still, and stores on a fresh, migrated database."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy.ext.asyncio import AsyncEngine

from twinlock.clock import ManualClock
from twinlock.crashpoints import disarm
from twinlock.store.engine import open_engine
from twinlock.store.migrate import upgrade
from twinlock.store.unit import Store

# A busy machine must not fail a test: nothing here promises a time.
settings.register_profile("twinlock", deadline=None)
settings.load_profile("twinlock")

OpenStore = Callable[[], Awaitable[Store]]
DATABASES = ["sqlite"]


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

    async def _migrate() -> None:
        engine = open_engine(_sqlite_url(path))
        await upgrade(engine)
        await engine.dispose()

    with asyncio.Runner() as runner:
        runner.run(_migrate())
    return path


@pytest.fixture
def empty_database(tmp_path: Path) -> str:
    """Return the URL of a database in which nothing is."""
    return _sqlite_url(tmp_path / "empty.db")


@pytest.fixture(params=DATABASES)
def database(sqlite_template: Path, tmp_path: Path) -> str:
    """Return the URL of a fresh, migrated database, on every kind in turn."""
    path = tmp_path / "twinlock.db"
    shutil.copyfile(sqlite_template, path)
    return _sqlite_url(path)


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
