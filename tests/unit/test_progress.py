"""Progress bars: what they count, and that nothing is shown off a terminal."""

import io

import pytest
from sqlalchemy import update

from cli.progress import BytesBar, ItemsBar, NoBar, NoBytes, bytes_bar, items_bar
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
    assert isinstance(items_bar("x", shows=True), NoBar)
    assert isinstance(bytes_bar("x", 1, shows=True), NoBytes)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(items_bar("x", shows=False), NoBar)
    assert isinstance(items_bar("x", shows=True), ItemsBar)

    assert isinstance(bytes_bar("x", 1, shows=True), BytesBar)


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
