"""The local vault's files.

    ROOT/VAULT/           0700, one folder for each vault
    ROOT/VAULT/KEY.json   0600, everything the name ever held (`NamedKeys`), secret bytes in the clear
    ROOT/VAULT/.lock      held (flock) by whoever changes a file of the vault
    ROOT/VAULT/.outage    the vault is unreachable while this exists
    ROOT/VAULT/.delay     for so many seconds it keeps every answer back
    ROOT/VAULT/.new-*     a file on its way; one without a holder of the lock is the rest of a killed process

Readers take no lock: a file is replaced as a whole. No name begins with a dot, so no key can hide behind these files.
The keys are as safe as the folder: whoever reads it has them, and destroyed bytes stay on the medium until the file
system writes over them.
"""

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from twinlock.vaults.software.reasons import Reason, VaultFault
from twinlock.vaults.software.records import NamedKeys
from twinlock.vaults.software.shelf import Step
from twinlock.vaults.uris import KeyUri

_LOCK: Final = ".lock"
_OUTAGE: Final = ".outage"
_DELAY: Final = ".delay"
_NEW: Final = ".new-"
_LARGEST_FILE: Final = 4 << 20  # over a thousand versions; bounds what a planted file can make us read
_LOCK_SECONDS: Final = 10.0  # a lock is held for milliseconds: whoever holds it longer is stuck
_POLL_SECONDS: Final = 0.01

_Stamp = tuple[int, int, int]


class FolderShelf:
    """Keep named keys in a folder that several processes share."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[KeyUri, tuple[_Stamp, NamedKeys]] = {}

    def read(self, uri: KeyUri) -> NamedKeys | None:
        """Return what the name holds now, None for a name that never was; a fault for an unknown vault.

        What was read before serves only while the file is the very same one: another process's change counts at once.
        """
        path = self._path(uri)
        try:
            found = path.lstat()
            cached = self._read.get(uri)
            if cached is not None and cached[0] == _stamp(found):
                return cached[1]
            stamp, named = _load(path, uri)
        except FileNotFoundError:
            self._read.pop(uri, None)
            self._check_vault(uri.vault)
            return None
        self._read[uri] = (stamp, named)
        return named

    def change(self, uri: KeyUri, step: Step) -> NamedKeys:
        """Replace what the name holds by what the step makes of it, wholly or not at all, one change at a time."""
        folder = self._make_vault(uri.vault)
        with _locked(folder):
            _sweep(folder)
            before = self.read(uri)
            after = step(before)
            if after is not before:
                _replace(self._path(uri), _encode(after))
                self._read.pop(uri, None)
        return after

    def outage(self, vault: str) -> bool:
        """Say whether a vault was made unreachable."""
        return (self._root / vault / _OUTAGE).exists()

    def set_outage(self, vault: str, on: bool) -> None:
        """Make a vault unreachable or reachable; a fault for an unknown vault."""
        self._check_vault(vault)
        marker = self._root / vault / _OUTAGE
        if on:
            marker.touch(mode=0o600)
        else:
            marker.unlink(missing_ok=True)
        _sync_folder(marker.parent)

    def delay(self, vault: str) -> float:
        """Return for how many seconds a vault keeps its answers back; nothing readable is no delay."""
        try:
            return float((self._root / vault / _DELAY).read_text())
        except (FileNotFoundError, ValueError):
            return 0.0

    def set_delay(self, vault: str, seconds: float) -> None:
        """Have a vault keep its answers back for so long; a fault for an unknown vault."""
        self._check_vault(vault)
        marker = self._root / vault / _DELAY
        if seconds:
            _replace(marker, str(seconds).encode())
        else:
            marker.unlink(missing_ok=True)
            _sync_folder(marker.parent)

    def _path(self, uri: KeyUri) -> Path:
        return self._root / uri.vault / f"{uri.key}.json"

    def _check_vault(self, vault: str) -> None:
        if not (self._root / vault).is_dir():
            raise VaultFault(Reason.UNKNOWN_VAULT)

    def _make_vault(self, vault: str) -> Path:
        folder = self._root / vault
        if not folder.is_dir():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self._root)
        folder.chmod(0o700)  # a copy or a backup may have opened it
        return folder


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _load(path: Path, uri: KeyUri) -> tuple[_Stamp, NamedKeys]:
    # O_NOFOLLOW: a link could make one vault serve another's key, and two slots would hang on one vault
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_FILE:
            raise VaultFault(Reason.DAMAGED)
        content = file.read(_LARGEST_FILE)
    try:
        named = NamedKeys.model_validate_json(content)
    except ValidationError:
        raise VaultFault(Reason.DAMAGED) from None
    if named.uri != str(uri):  # copied here from another name or vault
        raise VaultFault(Reason.DAMAGED)
    return _stamp(found), named


def _encode(named: NamedKeys) -> bytes:
    content = named.model_dump_json().encode()
    if len(content) > _LARGEST_FILE:  # it would never be read again
        raise VaultFault(Reason.FULL)
    return content


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=_NEW, dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _move_time(descriptor, path)
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _move_time(descriptor: int, replaced: Path) -> None:
    """Give the new file a later time than the old one's: inode and size may be the same, and the clock is coarse."""
    try:
        before = replaced.lstat().st_mtime_ns
    except FileNotFoundError:
        return
    later = max(os.fstat(descriptor).st_mtime_ns, before + 1)
    os.utime(descriptor, ns=(later, later))


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half written; the caller holds the lock, so nobody is writing."""
    for leftover in folder.glob(f"{_NEW}*"):
        leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the vault's lock, which the kernel releases when a process dies.

    It waits by asking again: a thread that blocks in the kernel could never be given up, and would hold up exit.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise VaultFault(Reason.BUSY)
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
