"""Which databases are taken, and what is said about the others."""

from pathlib import Path

import pytest

from twinlock.store.engine import UnsupportedDatabase, open_engine

PASSWORD = "canary-7f3b"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "twinlock.db",
        f"://{PASSWORD}",
        f"postgresql+asyncpg://twinlock:x@{PASSWORD}:{PASSWORD}/twinlock",
        f"postgresql://twinlock:{PASSWORD}@db.example/twinlock",
        f"mysql+asyncmy://twinlock:{PASSWORD}@db.example/twinlock",
        f"sqlite:///{PASSWORD}.db",
        "sqlite+aiosqlite://",
        f"sqlite+aiosqlite://{PASSWORD}/twinlock.db",
        f"sqlite+aiosqlite://twinlock:{PASSWORD}@/twinlock.db",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///file:twinlock?mode=memory&uri=true",
    ],
)
def test_refused(url: str) -> None:
    """A database that can't serve is refused with the form to write, and without the URL, which may hold a password."""
    with pytest.raises(UnsupportedDatabase) as caught:
        open_engine(url)

    assert "write sqlite+aiosqlite:///PATH or postgresql+asyncpg://" in caught.value.hint
    assert PASSWORD not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"


def test_nothing_is_made(tmp_path: Path) -> None:
    """Opening an engine touches no file: nothing is made before something connects."""
    open_engine(f"sqlite+aiosqlite:///{tmp_path / 'twinlock.db'}")

    assert [] == list(tmp_path.iterdir())
