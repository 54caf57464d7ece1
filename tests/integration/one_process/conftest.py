"""An installation whose workers run in the test's process: embedded on SQLite, or on RabbitMQ and PostgreSQL."""

import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from schemas.identifiers import PROVIDER
from tests.integration.one_process.lines import BrokerLine, EmbeddedLine, Line
from tests.integration.one_process.staff import Staff
from twinlock.clock import ManualClock
from twinlock.custody.port import Custodian
from twinlock.store.engine import open_engine
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store

Employ = Callable[[Callable[[Store], Custodian], Mapping[str, Any]], Staff]
TENANTS = (PROVIDER, "acme", "beta")


@pytest.fixture(params=["embedded", pytest.param("amqp", marks=pytest.mark.servers)])
def kind(request: pytest.FixtureRequest) -> str:
    """Return which transport carries the events."""
    return str(request.param)


@pytest.fixture
async def line(kind: str, request: pytest.FixtureRequest) -> Line:
    """Return a transport on which everything is made."""
    if kind == "embedded":
        return EmbeddedLine()
    laid = BrokerLine(request.getfixturevalue("rabbit"), request.getfixturevalue("vhost"))
    await laid.lay()
    return laid


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a fresh, migrated database."""
    if kind == "amqp":
        return str(request.getfixturevalue("postgres_url"))
    shutil.copyfile(request.getfixturevalue("sqlite_template"), tmp_path / "twinlock.db")
    return f"sqlite+aiosqlite:///{tmp_path / 'twinlock.db'}"


@pytest.fixture
async def employ(line: Line, url: str, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Employ]:
    """Return what makes the staff of an installation with three tenants."""
    engine = open_engine(url)
    async with Store(engine, clock, "urn:twinlock:test").begin(Cause("test")) as unit:
        rows = [{"id": name, "name": name, "trial": False, "created_at": clock.now()} for name in TENANTS]
        await unit.execute(insert(tenants), rows)
    yield lambda custodian, settings: Staff(line, engine, clock, tmp_path / "home", custodian, settings)
    await engine.dispose()
