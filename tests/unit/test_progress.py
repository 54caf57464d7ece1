"""Progress bars: what they count, and that nothing is shown off a terminal."""

import io

import pytest
from sqlalchemy import update

from cli.progress import BytesBar, ItemsBar, ItemsLines, NoBar, NoBytes, Shows, bytes_bar, items_bar
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause, Store
from workers.jobs import NewJob, put


class Terminal(io.StringIO):
    """Be a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_nothing_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off a terminal, and with `--json` on one, there are no bars."""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(items_bar("x", Shows.BARS), NoBar)
    assert isinstance(bytes_bar("x", 1, Shows.LINES), NoBytes)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(items_bar("x", Shows.NOTHING), NoBar)
    assert isinstance(items_bar("x", Shows.LINES), ItemsBar)

    assert isinstance(bytes_bar("x", 1, Shows.BARS), BytesBar)


async def test_lines_off_a_terminal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where lines are wished for, every quarter that is done is one line."""
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    async with store.begin(Cause("mine")) as unit:
        await put(unit, NewJob("job", "worker", "reencrypt", "tenant", container_id="box", total=40))
    with items_bar("re-encrypting", Shows.LINES) as lines:
        assert isinstance(lines, ItemsLines)
        for done in (0, 9, 21, 24, 40):
            async with store.begin(Cause("test")) as unit:
                await unit.execute(update(jobs).values(done=done))
                await lines.update(unit, "mine")

    assert "re-encrypting: 21 of 40\nre-encrypting: 40 of 40\n" == shown.getvalue()


async def test_items_of_a_correlation(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar counts the items of its own correlation's jobs, and is full when the last job is gone."""
    monkeypatch.setattr("sys.stderr", Terminal())
    async with store.begin(Cause("mine")) as unit:
        await put(unit, NewJob("job", "worker", "reencrypt", "tenant", container_id="box", total=40))
    async with store.begin(Cause("other")) as unit:
        await put(unit, NewJob("else", "worker", "reencrypt", "tenant", container_id="bin", total=7))
    seen = []
    with ItemsBar("re-encrypting") as bar:
        for change in (update(jobs).values(done=0), update(jobs).values(done=10), None):
            async with store.begin(Cause("test")) as unit:
                if change is None:
                    await unit.execute(jobs.delete())
                else:
                    await unit.execute(change)
                await bar.update(unit, "mine")
            seen.append(bar.counted)

    assert [(0, 40), (10, 40), (40, 40)] == seen
