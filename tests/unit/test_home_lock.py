"""Several processes on one home."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from events.home_lock import AlreadyRunning, FileLock, HomeLock, WorkerRunLock
from events.network_home import NetworkHome, refuse_network_home
from twinlock.clock import ManualClock

HOLD = """
import sys
from pathlib import Path
from events.home_lock import {lock}
with {lock}(Path(sys.argv[1])) as lock:
    print(lock.try_acquire(), flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(home: Path, lock: str = "HomeLock") -> Iterator["subprocess.Popen[str]"]:
    """Hold a lock in a process of its own until its standard input ends."""
    command = [sys.executable, "-c", HOLD.format(lock=lock), str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "True" == process.stdout.readline().strip()
        yield process
        process.kill()


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[HomeLock]:
    with HomeLock(tmp_path) as lock:
        yield lock


def test_one_process_at_a_time(tmp_path: Path, lock: HomeLock) -> None:
    """While another process runs the workers nobody else gets the lock; when it ends, the next one does."""
    with other_process(tmp_path) as process:
        while_held = lock.try_acquire()
        process.communicate()
        after = lock.try_acquire()

    assert (False, True) == (while_held, after)


def test_kill_releases(tmp_path: Path, lock: HomeLock) -> None:
    """A process that is killed leaves no lock behind."""
    with other_process(tmp_path) as process:
        process.kill()
        process.wait()

        assert lock.try_acquire()


async def test_waiting(tmp_path: Path, lock: HomeLock, clock: ManualClock) -> None:
    """A process that waits for the lock takes over when its holder goes."""
    with other_process(tmp_path) as process:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            waiting = group.create_task(lock.acquire(clock))
            while clock.sleepers == 0:
                await _breathe()
            in_between = waiting.done()
            process.kill()
            process.wait()
            clock.advance(0.1)

    assert not in_between
    assert not HomeLock(tmp_path).try_acquire()


async def _breathe() -> None:
    await asyncio.sleep(0)


def test_release(tmp_path: Path, lock: HomeLock) -> None:
    """A lock that was given back is free; taking one's own lock again is no error."""
    mine = (lock.try_acquire(), lock.try_acquire())
    lock.release()
    lock.release()

    assert (True, True) == mine
    with HomeLock(tmp_path) as other:
        assert other.try_acquire()


def test_two_objects_of_one_process(tmp_path: Path, lock: HomeLock) -> None:
    """Two holders inside one process exclude each other as two processes do."""
    lock.try_acquire()

    assert not HomeLock(tmp_path).try_acquire()


def test_second_worker_run(tmp_path: Path) -> None:
    """A second `worker run` is refused at once, with the first one's process id and the fix."""
    with other_process(tmp_path, "WorkerRunLock") as process, pytest.raises(AlreadyRunning) as raised:
        WorkerRunLock(tmp_path).__enter__()

    assert process.pid == raised.value.pid
    assert f"(process {process.pid})" in str(raised.value)
    assert "--home" in raised.value.hint


def test_commands_beside_a_worker_run(tmp_path: Path, lock: HomeLock) -> None:
    """A `worker run` that does not hold the workers leaves them to a command, and the other way round."""
    with other_process(tmp_path, "WorkerRunLock"):
        assert lock.try_acquire()


def test_unreadable_pid(tmp_path: Path) -> None:
    """A lock file without a process id gives a message without one."""
    with WorkerRunLock(tmp_path):
        (tmp_path / "worker-run.lock").write_text("")
        with pytest.raises(AlreadyRunning) as raised:
            WorkerRunLock(tmp_path).__enter__()

    assert raised.value.pid is None
    assert "process" not in str(raised.value)


def test_pid_of_a_longer_predecessor(tmp_path: Path) -> None:
    """A shorter process id leaves nothing of a longer one in the file, and the file is nobody else's to read."""
    path = tmp_path / "workers.lock"
    with FileLock(path) as first:
        first.try_acquire()
        path.write_text("123456789012345\n")
    with FileLock(path) as second:
        second.try_acquire()

        assert f"{second.holder}\n" == path.read_text()
    assert 0o600 == path.stat().st_mode & 0o777


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw shared:2 - nfs4 server:/export rw
31 30 8:2 / /srv/local rw shared:3 master:4 - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/my\\040share rw - cifs //server/share rw
33 22 0:42 / /over rw - ext4 /dev/sdc1 rw
34 22 0:43 / /over rw - fuse.sshfs host:/ rw
35 22 0:44 / /vm rw - 9p host rw
36 22 0:45 / /pool rw - ceph mon:/ rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("home", "kind"),
    [
        ("/srv/twinlock", "nfs4"),
        ("/mnt/my share/twinlock", "cifs"),
        ("/over/twinlock", "fuse.sshfs"),
        ("/vm", "9p"),
        ("/pool/a/b/c", "ceph"),
    ],
)
def test_network_home(mounts: Path, home: str, kind: str) -> None:
    """A home on a network file system is refused, with its kind and the fix."""
    with pytest.raises(NetworkHome, match=f"the home {home} lies on a network file system") as raised:
        refuse_network_home(Path(home), mounts)

    assert kind == raised.value.kind
    assert "--home" in raised.value.hint


@pytest.mark.parametrize("home", ["/home/me", "/srv/local/twinlock", "/srvother"])
def test_local_home(mounts: Path, home: str) -> None:
    """A home on a local disk passes, also below or beside a network mount."""
    refuse_network_home(Path(home), mounts)


def test_this_machine(tmp_path: Path) -> None:
    """The mounts of the machine under test are readable."""
    refuse_network_home(tmp_path)


def test_elsewhere(mounts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no list of mounts nothing is refused."""
    monkeypatch.setattr(sys, "platform", "darwin")

    refuse_network_home(Path("/srv/twinlock"), mounts)
