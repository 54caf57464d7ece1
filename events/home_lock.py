"""Several processes on one home: one of them runs the workers, and at most one is a `worker run`.

The kernel holds the locks and releases them when a process dies, however it dies. The files stay; what is written
in them serves messages alone.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from twinlock.errors import TwinlockError
from twinlock.keys.ports import Clock

POLL_SECONDS = 0.1


class FileLock:
    """Hold one lock file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free; false if another process, or another object of this one, has it."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        with suppress(OSError):  # only messages need it: a full disk must not keep anybody from looking
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def holder(self) -> int | None:
        """Return the process id that the last holder wrote, if it is there to read."""
        try:
            return int(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class HomeLock(FileLock):
    """Be the process that runs the workers of a home; leaving the `with` block releases it."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "workers.lock")

    async def acquire(self, clock: Clock) -> None:
        """Wait until this process may run the workers."""
        while not self.try_acquire():
            await clock.sleep(POLL_SECONDS)


class AlreadyRunning(TwinlockError):
    """Refuse a second `worker run` on one home."""

    def __init__(self, home: Path, pid: int | None) -> None:
        who = f" (process {pid})" if pid is not None else ""
        super().__init__(
            f"a worker run is active on the home {home} already{who}",
            hint="stop it first, or give this one another home with --home",
        )
        self.pid = pid


class WorkerRunLock(FileLock):
    """Be the one `worker run` of a home; entering the `with` block takes it."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "worker-run.lock")
        self._home = home

    def __enter__(self) -> Self:
        if not self.try_acquire():
            raise AlreadyRunning(self._home, self.holder)
        return self
