"""The embedded vault's files: closed to others, replaced as a whole, shared by processes, and checked when read."""

import fcntl
import json
import os
import stat
import subprocess
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from twinlock.clock import ManualClock
from twinlock.keys.ports import Denied, Misconfigured, Unavailable, Unclear, VaultFailure
from twinlock.vaults.administration import KeyStatus, VaultTrouble, WrongKeyState
from twinlock.vaults.software import folder
from twinlock.vaults.software.local import LocalVault

URI, AVAILABILITY = "local://contoso/root", "local://provider/policy-1"
PAYLOAD, CONTEXT = bytes(range(64)), b"place"

Json = dict[str, Any]


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    """Make one small key for all tests."""
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Name the folder of all vaults, which does not exist yet."""
    return tmp_path / "home" / "vaults"


@pytest.fixture
def open_vault(root: Path, clock: ManualClock, rsa_key: rsa.RSAPrivateKey) -> Callable[[], LocalVault]:
    """Open the same vaults again, as another process would."""
    return lambda: LocalVault(root, clock, lambda: rsa_key)


@pytest.fixture
def vault(open_vault: Callable[[], LocalVault]) -> LocalVault:
    """Open the vault."""
    return open_vault()


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """Let others read new files, as most machines do."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def key_file(root: Path, uri: str = URI) -> Path:
    """Return the file that holds a key."""
    return root / f"{uri.removeprefix('local://')}.json"


def below(folder: Path) -> list[Path]:
    """Return every file and folder below a folder."""
    return list(folder.rglob("*"))


def spoil(path: Path, change: Callable[[Json], object]) -> None:
    """Change a key file by hand."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def secrets_in(path: Path) -> list[bytes]:
    """Return every secret that a key file holds."""
    keys = json.loads(path.read_text())["keys"]
    return [urlsafe_b64decode(version["secret"]) for key in keys for version in key["versions"]]


async def refusal(vault: LocalVault, uri: str = URI) -> VaultFailure:
    """Return the failure with which wrapping ends."""
    with pytest.raises(VaultFailure) as caught:
        await vault.wrap(uri, PAYLOAD, CONTEXT)
    return caught.value


@pytest.mark.usefixtures("usual_umask")
async def test_modes(vault: LocalVault, root: Path) -> None:
    """Folders are closed to others, and so is every file in them."""
    await vault.create_root_key(URI)
    await vault.rotate(URI)
    await vault.set_outage("contoso", True)
    await vault.set_delay("contoso", 2.5)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [root, *below(root)]}

    assert {
        "vaults": 0o700,
        "contoso": 0o700,
        "root.json": 0o600,
        ".lock": 0o600,
        ".outage": 0o600,
        ".delay": 0o600,
    } == modes


async def test_opened_folder(vault: LocalVault, root: Path) -> None:
    """A vault's folder that was opened to others is closed by the next change."""
    await vault.create_root_key(URI)
    (root / "contoso").chmod(0o755)
    await vault.rotate(URI)

    assert 0o700 == stat.S_IMODE((root / "contoso").stat().st_mode)


async def test_nothing_outside(vault: LocalVault, root: Path, tmp_path: Path) -> None:
    """A key is in its own vault's file and in no other."""
    await vault.create_root_key(URI)
    await vault.create(AVAILABILITY)
    for uri in (URI, AVAILABILITY):
        encoded = [urlsafe_b64encode(secret).rstrip(b"=") for secret in secrets_in(key_file(root, uri))]
        holders = [path for path in below(tmp_path) if path.is_file() and encoded[0] in path.read_bytes()]

        assert [key_file(root, uri)] == holders


async def test_reading_makes_nothing(vault: LocalVault, tmp_path: Path) -> None:
    """Asking for what is not there makes no folder."""
    await refusal(vault)
    await vault.destroy(URI)

    assert [] == below(tmp_path)


async def test_leftover(vault: LocalVault, root: Path) -> None:
    """What a killed process left half written is never read, and the next change removes it."""
    await vault.create_root_key(URI)
    before = await vault.describe(URI)
    leftover = root / "contoso" / ".new-killed"
    leftover.write_text('{"format":"twinlock-softw')

    assert before == await vault.describe(URI)
    await vault.rotate(URI)
    assert not leftover.exists()


async def test_failed_write(vault: LocalVault, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that can't be made durable leaves the old file and nothing else."""
    await vault.create_root_key(URI)
    before = key_file(root).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        with pytest.raises(VaultTrouble, match="ENOSPC"):
            await vault.rotate(URI)

    assert before == key_file(root).read_bytes()
    assert {".lock", "root.json"} == {path.name for path in (root / "contoso").iterdir()}
    assert "1" == (await vault.state(URI)).version


def _full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


async def test_two_instances(vault: LocalVault, open_vault: Callable[[], LocalVault]) -> None:
    """What one process does to a key, another sees with its next call, though it had read the key before."""
    await vault.create_root_key(URI)
    other = open_vault()
    wrapped = await other.wrap(URI, PAYLOAD, CONTEXT)
    for _ in range(5):
        await vault.disable(URI)
        with pytest.raises(Denied):
            await other.unwrap(wrapped, CONTEXT)
        await vault.enable(URI)

        assert PAYLOAD == await other.unwrap(wrapped, CONTEXT)

    await vault.rotate(URI)

    assert "2" == (await other.describe(URI)).version


async def test_same_clock_tick(vault: LocalVault, root: Path) -> None:
    """Two changes within one tick of the file system's clock give two times: no reader takes one for the other."""
    await vault.create_root_key(URI)
    future = key_file(root).stat().st_mtime_ns + 10**12
    os.utime(key_file(root), ns=(future, future))
    await vault.disable(URI)

    assert future + 1 == key_file(root).stat().st_mtime_ns


RACE = """
import asyncio, sys
from pathlib import Path
from twinlock.clock import SystemClock
from twinlock.vaults.software.local import LocalVault

async def main():
    vault = LocalVault(Path(sys.argv[1]), SystemClock())
    for _ in range(10):
        await vault.rotate(sys.argv[2])

asyncio.run(main())
"""


def run_both(command: list[str]) -> list[int]:
    """Run a command twice at once and return the exit codes."""
    processes = [subprocess.Popen(command) for _ in range(2)]
    return [process.wait() for process in processes]


async def test_two_processes(vault: LocalVault, root: Path) -> None:
    """Two processes that change one key at once lose no change."""
    made = await vault.create(AVAILABILITY)
    command = [sys.executable, "-c", RACE, str(root), AVAILABILITY]

    assert [0, 0] == run_both(command)
    assert tuple(str(number) for number in range(1, 22)) == (await vault.state(AVAILABILITY)).versions
    assert made.identity == (await vault.describe(AVAILABILITY)).identity


async def test_stuck_lock(vault: LocalVault, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault whose lock someone keeps is unavailable for changes, which is no evidence, and still unwraps (law 5)."""
    await vault.create(AVAILABILITY)
    wrapped = await vault.wrap(AVAILABILITY, PAYLOAD, CONTEXT)
    monkeypatch.setattr(folder, "_LOCK_SECONDS", 0.0)
    with (root / "provider" / ".lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable) as caught:
            await vault.destroy(AVAILABILITY)
        with pytest.raises(VaultTrouble, match="lock"):
            await vault.rotate(AVAILABILITY)

        assert not caught.value.counts
        assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


def _version(content: Json) -> Json:
    version: Json = content["keys"][-1]["versions"][-1]
    return version


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.clear(),
        lambda content: content.update(format="twinlock-software-key/2"),
        lambda content: content.update(extra=1),
        lambda content: content.update(keys=[]),
        lambda content: content.update(uri="local://contoso/copied"),
        lambda content: _version(content).update(algorithm="ROT13"),
        lambda content: _version(content).update(algorithm="AES-256-GCM"),
        lambda content: _version(content).update(secret=_version(content)["secret"][:400]),
        lambda content: _version(content).update(fingerprint="00" * 32),
        lambda content: _version(content).update(version="one"),
    ],
)
async def test_damaged_file(vault: LocalVault, root: Path, change: Callable[[Json], object]) -> None:
    """A key file that does not hold what was stored is our own trouble, and no message quotes it."""
    await vault.create_root_key(URI)
    secret = json.loads(key_file(root).read_text())["keys"][0]["versions"][0]["secret"]
    spoil(key_file(root), change)
    failure = await refusal(vault)

    assert isinstance(failure, Misconfigured)
    assert secret[20:40] not in f"{failure!r} {failure.__dict__} {failure.__cause__!r}"


async def test_damaged_availability_key(vault: LocalVault, root: Path) -> None:
    """A flipped bit in an AES key is found by its fingerprint before it wraps anything."""
    await vault.create(AVAILABILITY)
    other = urlsafe_b64encode(bytes(32)).decode()
    spoil(key_file(root, AVAILABILITY), lambda content: _version(content).update(secret=other))

    assert isinstance(await refusal(vault, AVAILABILITY), Misconfigured)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, bytes(5 << 20)])
async def test_rubbish_file(vault: LocalVault, root: Path, content: bytes) -> None:
    """A file of rubbish is our own trouble, at the port and in the administration."""
    await vault.create_root_key(URI)
    key_file(root).write_bytes(content)
    failure = await refusal(vault)
    with pytest.raises(VaultTrouble, match="damaged"):
        await vault.disable(URI)

    assert (Misconfigured, "key-file-damaged") == (type(failure), failure.raw)


async def test_linked_file(vault: LocalVault, root: Path) -> None:
    """A link to another vault's key is not followed: two slots would hang on one vault."""
    await vault.create_root_key(URI)
    (root / "second").mkdir()
    key_file(root, "local://second/root").symlink_to(key_file(root))
    failure = await refusal(vault, "local://second/root")

    assert (Misconfigured, "ELOOP") == (type(failure), failure.raw)


async def test_copied_file(vault: LocalVault, root: Path) -> None:
    """A key file copied to another vault is refused there."""
    await vault.create_root_key(URI)
    (root / "second").mkdir()
    key_file(root, "local://second/root").write_bytes(key_file(root).read_bytes())

    assert isinstance(await refusal(vault, "local://second/root"), Misconfigured)


async def test_key_is_folder(vault: LocalVault, root: Path) -> None:
    """A folder, or a pipe that would block for ever, in the place of a key file is our own trouble."""
    await vault.create_root_key(URI)
    key_file(root, "local://contoso/folder").mkdir()
    os.mkfifo(key_file(root, "local://contoso/pipe"))

    assert isinstance(await refusal(vault, "local://contoso/folder"), Misconfigured)
    assert isinstance(await refusal(vault, "local://contoso/pipe"), Misconfigured)


async def test_vault_is_file(vault: LocalVault, root: Path) -> None:
    """A file in the place of a vault is our own trouble."""
    await vault.create_root_key("local://other/root")
    (root / "contoso").write_text("")
    with pytest.raises(VaultTrouble):
        await vault.create_root_key(URI)

    assert isinstance(await refusal(vault), Misconfigured)


async def test_small_key(root: Path, clock: ManualClock) -> None:
    """A generator that gives a weak key is refused before anything is made."""
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it must be refused
    with pytest.raises(WrongKeyState, match="wrong type"):
        await LocalVault(root, clock, lambda: weak).create_root_key(URI)

    assert [] == below(root)


async def test_unknown_failure(root: Path, clock: ManualClock, vault: LocalVault) -> None:
    """A failure that nobody foresaw is unclear, and its text, which may quote a secret, is not passed on."""
    await vault.create_root_key(URI)
    broken = LocalVault(root, clock, lambda: 1 // 0)  # type: ignore[arg-type,return-value]  # it must fail
    with pytest.raises(VaultTrouble, match="ZeroDivisionError"):
        await broken.create_root_key("local://contoso/new")
    failure = await _confused(vault)

    assert "TypeError" == failure.raw


async def _confused(vault: LocalVault) -> VaultFailure:
    with pytest.raises(Unclear) as caught:
        await vault.wrap(URI, 64, CONTEXT)  # type: ignore[arg-type]  # a fault of the program
    return caught.value


async def test_full_file(vault: LocalVault, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that would make a file too large to be read again is refused."""
    await vault.create_root_key(URI)
    monkeypatch.setattr(folder, "_LARGEST_FILE", key_file(root).stat().st_size + 100)
    with pytest.raises(WrongKeyState, match="no more versions"):
        await vault.rotate(URI)

    assert PAYLOAD == await vault.unwrap(await vault.wrap(URI, PAYLOAD, CONTEXT), CONTEXT)


async def test_destroyed_bytes(vault: LocalVault, root: Path) -> None:
    """Destroying a key takes every version's bytes out of the vault, and leaves the tombstone."""
    await vault.create(AVAILABILITY)
    await vault.rotate(AVAILABILITY)
    secrets = secrets_in(key_file(root, AVAILABILITY))
    await vault.destroy(AVAILABILITY)

    assert 2 == len(secrets)
    assert [] == secrets_in(key_file(root, AVAILABILITY))
    assert KeyStatus.DESTROYED is (await vault.state(AVAILABILITY)).state


async def test_archived_root_key(vault: LocalVault, root: Path) -> None:
    """A root key archived under a name is not destroyed as an availability key."""
    await vault.create(AVAILABILITY)
    await vault.delete(AVAILABILITY)
    await vault.create_root_key(AVAILABILITY)
    with pytest.raises(Misconfigured):
        await vault.destroy(AVAILABILITY)

    assert 2 == len(secrets_in(key_file(root, AVAILABILITY)))


async def test_reprs(vault: LocalVault, root: Path) -> None:
    """Neither the vault nor what it keeps in memory prints a secret."""
    await vault.create_root_key(URI)
    await vault.wrap(URI, PAYLOAD, CONTEXT)
    secret = secrets_in(key_file(root))[0]
    kept = vault._shelf.read(vault.locate(URI))  # what a traceback with local variables would show
    shown = f"{vault!r} {vault} {kept!r} {kept}"

    assert "redacted" in repr(kept and kept.current.versions[0].material())
    assert repr(secret)[10:40] not in shown
    assert urlsafe_b64encode(secret).decode()[10:40] not in shown
