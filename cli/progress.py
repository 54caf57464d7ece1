"""Progress bars on a terminal, with rate and time left; elsewhere nothing is shown."""

import sys
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
from sqlalchemy import func, select

from twinlock.store.tables.work import jobs
from twinlock.store.unit import Reader


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


class ItemsBar:
    """Show how many items of a correlation's jobs are re-encrypted."""

    def __init__(self, title: str) -> None:
        self._bar = _shown(MofNCompleteColumn(), _Rate())
        self._task = self._bar.add_task(title, total=None)
        self._most = 0
        self._left = 0

    @property
    def counted(self) -> tuple[int, int]:
        """Return how many items are done, of how many."""
        return self._most - self._left, self._most

    async def update(self, reader: Reader, correlation: str) -> None:
        """Count what is left; the most that ever was left is the whole."""
        left = await reader.scalar(
            select(func.sum(jobs.c.total - jobs.c.done)).where(
                jobs.c.correlation == correlation, jobs.c.container_id.is_not(None)
            )
        )
        self._left = int(left or 0)
        self._most = max(self._most, self._left)
        if self._most:
            self._bar.update(self._task, total=self._most, completed=self._most - self._left)

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


def items_bar(title: str, shows: bool) -> Watch:
    """Return a bar of items on a terminal, and nothing elsewhere."""
    return ItemsBar(title) if shows and sys.stderr.isatty() else NoBar()


def bytes_bar(title: str, total: int | None, shows: bool) -> BytesBar | NoBytes:
    """Return a bar of bytes on a terminal, and nothing elsewhere."""
    return BytesBar(title, total) if shows and sys.stderr.isatty() else NoBytes()
