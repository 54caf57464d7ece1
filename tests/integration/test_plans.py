"""No recurring query reads or sorts a whole table, and no handler locks one: `bench/plans.py`, on fewer rows."""

from pathlib import Path

import pytest

from tests.plans.filling import Size
from tests.plans.recurring import exercise
from tests.servers.postgres import Postgres
from tests.servers.postgres import run as run_async
from workers.metrics import looks

SIZE = Size(mailboxes=40_000, items=1, tenants=200, backlog=12_000)
MOST = 2000  # rows that one statement looks at: a few batches


def test_plans(postgres: Postgres, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 12: what a fleet does again and again costs the same however much there is, and locks no table."""
    monkeypatch.setattr(looks, "MOST", 1000)
    database = postgres_url.rpartition("/")[2]
    watch = run_async(exercise(postgres, database, tmp_path, SIZE))
    looked_at = {each.statement: each.rows for each in watch.found.values() if each.rows > MOST}

    assert len(watch.found) > 150
    assert {} == watch.wrong
    assert {} == looked_at
    assert set() == watch.strong_locks
