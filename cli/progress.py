"""Progress bars on a terminal, with rate and time left; elsewhere nothing, or lines where they were wished for."""

import sys
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Task as ProgressTask
from rich.text import Text
from sqlalchemy import func, or_, select

from schemas.names import SITE_REENCRYPTOR
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Reader

_QUARTERS = 4
_WIDTH = 20


class Shows(StrEnum):
    """What a command shows of its progress; nothing is false."""

    NOTHING = ""
    BARS = "bars"
    LINES = "lines"  # bars on a terminal, short plain lines elsewhere: for the demo, which others watch in a log


class Watch(Protocol):
    """Look at work while a command waits for it."""

    async def update(self, reader: Reader, correlation: str) -> None:
        """Show how far it is."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class NoBar:
    """Show nothing."""

    async def update(self, reader: Reader, correlation: str) -> None:
        """Show nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show nothing."""


class _Rate(ProgressColumn):
    def render(self, task: ProgressTask) -> Text:
        """Return items a second."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "")


def _shown(*columns: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *columns,
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )


class _Items:
    """Count how many items of a correlation's jobs are re-encrypted, or how many sites of its geos are rewrapped."""

    def __init__(self) -> None:
        self._most = 0
        self._left = 0

    @property
    def counted(self) -> tuple[int, int]:
        """Return how many items are done, of how many."""
        return self._most - self._left, self._most

    async def count(self, reader: Reader, correlation: str) -> tuple[int, int]:
        """Count what is left; the most that ever was left is the whole."""
        left = await reader.scalar(
            select(func.sum(jobs.c.total - jobs.c.done)).where(
                jobs.c.correlation == correlation,
                or_(jobs.c.container_id.is_not(None), jobs.c.worker == SITE_REENCRYPTOR),
            )
        )
        self._left = int(left or 0)
        self._most = max(self._most, self._left)
        return self.counted


class ItemsLines(_Items, NoBar):
    """Show the items as plain lines, one a quarter."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._shown = 0

    async def update(self, reader: Reader, correlation: str) -> None:
        """Show a line when another quarter is done."""
        done, whole = await self.count(reader, correlation)
        quarter = _QUARTERS * done // whole if whole else 0
        if quarter > self._shown:
            self._shown = quarter
            sys.stderr.write(f"{self._title}: {done} of {whole}\n")
            sys.stderr.flush()


class ItemsBar(_Items):
    """Show the items as a bar."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._bar = _shown(MofNCompleteColumn(), _Rate())
        self._task = self._bar.add_task(title, total=None)

    async def update(self, reader: Reader, correlation: str) -> None:
        """Move the bar."""
        done, whole = await self.count(reader, correlation)
        if whole:
            self._bar.update(self._task, total=whole, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class BytesBar:
    """Show how many bytes were read or written."""

    def __init__(self, title: str, total: int | None) -> None:
        self._bar = _shown(DownloadColumn(), TransferSpeedColumn())
        self._task = self._bar.add_task(title, total=total)

    def at(self, count: int) -> None:
        """Show that so many bytes are done."""
        self._bar.update(self._task, completed=count)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class NoBytes(NoBar):
    """Show nothing of bytes."""

    def at(self, count: int) -> None:
        """Show nothing."""


def items_bar(title: str, shows: Shows) -> Watch:
    """Return a bar of items on a terminal; elsewhere lines where they are wished for, or nothing."""
    if shows and sys.stderr.isatty():
        return ItemsBar(title)
    return ItemsLines(title) if shows is Shows.LINES else NoBar()


def bytes_bar(title: str, total: int | None, shows: Shows) -> BytesBar | NoBytes:
    """Return a bar of bytes on a terminal, and nothing elsewhere."""
    return BytesBar(title, total) if shows and sys.stderr.isatty() else NoBytes()


def bar(percent: float, drawn: bool) -> str:
    """Return how much is done as it stands in a table: on a terminal with a bar."""
    full = int(percent / 100 * _WIDTH)
    return f"{'━' * full}{'╌' * (_WIDTH - full)} {percent:g}%" if drawn else f"{percent:g}%"
