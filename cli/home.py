"""The home: a folder of one installation that only its owner can enter, and what lies in it."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from events.network_home import refuse_network_home
from twinlock.errors import TwinlockError
from twinlock.keys.signing import SigningKey, public_from_pem, public_to_pem

SETTINGS = "twinlock.toml"
DATABASE = "twinlock.db"
OBJECTS = "objects"
VAULTS = "vaults"
LOG = "twinlock.log"
SECRETS = "secrets"
AUDIT_KEY = Path(SECRETS, "audit.key")
CHECKPOINT_KEY = "audit-checkpoint.key"
CHECKPOINT_PUBLIC = "audit-checkpoint.pub"
CERTIFICATE_KEY = "purge-certificate.key"
CERTIFICATE_PUBLIC = "purge-certificate.pub"
MARK = Path(SECRETS, "restore.mark")  # no backup may bring it back: see docs/backup.md
INIT_LOCK = "init.lock"

_KEY_BYTES = 32
_FROM_BACKUP = "bring the file back from a backup"
_OWN = 0o700
_OURS = (SETTINGS, DATABASE, OBJECTS, VAULTS, LOG, INIT_LOCK, SECRETS)


class NotInitialised(TwinlockError):
    """Say that a folder is no home yet, or that making it one was interrupted."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"{home} is not initialised", hint="run: twinlock init")


def prepare(home: Path) -> None:
    """Make the folders of a home, or close those that are there to everybody else."""
    _refuse_foreign(home)
    home.mkdir(parents=True, exist_ok=True, mode=_OWN)
    refuse_network_home(home)
    for folder in (home, home / AUDIT_KEY.parent, home / VAULTS, home / OBJECTS):
        folder.mkdir(exist_ok=True, mode=_OWN)
        folder.chmod(_OWN)


def _refuse_foreign(home: Path) -> None:
    # To close somebody's folder to everybody else is no small thing, so it has to be ours.
    if not home.exists():
        return
    if not home.is_dir():
        raise TwinlockError(f"{home} is not a folder", hint="choose another home with --home")
    names = {path.name for path in home.iterdir()}
    if names and not names.intersection(_OURS):
        raise TwinlockError(f"{home} holds other files", hint="choose an empty folder with --home")


def check(home: Path) -> None:
    """Raise where a folder is no home, or lies on a network file system."""
    if not (home / AUDIT_KEY).is_file():
        _refuse_lost_key(home)
        raise NotInitialised(home)
    for key, public in ((CHECKPOINT_KEY, CHECKPOINT_PUBLIC), (CERTIFICATE_KEY, CERTIFICATE_PUBLIC)):
        if not (home / SECRETS / key).is_file():
            _refuse_lost_half(home / SECRETS / key, home / public)
            raise NotInitialised(home)
    if not has_checkpoint_public(home):  # which a backup of `secrets` leaves out, and init makes of the other half
        raise NotInitialised(home)
    refuse_network_home(home)


def _refuse_lost_key(home: Path) -> None:
    # The key is made before the database. A new one beside old entries would hide that they can't be verified any more.
    if (home / DATABASE).exists():
        raise TwinlockError(f"{home / AUDIT_KEY} is missing", hint="bring the file back from a backup")


def make_audit_key(home: Path) -> None:
    """Make the key of the audit log's MACs, once: what is there is never replaced, and never seen half written."""
    path = home / AUDIT_KEY
    if path.exists():
        return
    _refuse_lost_key(home)
    _make_secret(path, secrets.token_bytes(_KEY_BYTES))


def has_audit_key(home: Path) -> bool:
    """Tell whether this home can write to the audit log: that of a single worker of a fleet can't."""
    return (home / AUDIT_KEY).is_file()


def read_audit_key(home: Path) -> bytes:
    """Return the key of the audit log's MACs; raise where it is damaged."""
    key = (home / AUDIT_KEY).read_bytes()
    if len(key) != _KEY_BYTES:
        raise TwinlockError(f"{home / AUDIT_KEY} is damaged", hint="bring the file back from a backup")
    return key


def make_checkpoint_key(folder: Path, home: Path) -> SigningKey:
    """Return the key that signs the audit log's checkpoints, made once; its public half lies in the home."""
    return _make_pair(folder / CHECKPOINT_KEY, home / CHECKPOINT_PUBLIC)


def make_certificate_key(folder: Path, home: Path) -> SigningKey:
    """Return the key that signs the certificates of purges, made once; its public half lies in the home."""
    return _make_pair(folder / CERTIFICATE_KEY, home / CERTIFICATE_PUBLIC)


def _make_pair(path: Path, public: Path) -> SigningKey:
    if not path.exists():
        _refuse_lost_half(path, public)
        path.parent.mkdir(mode=_OWN, parents=True, exist_ok=True)
        _make_secret(path, SigningKey.generate().to_pem())
    key = _read_signing_key(path, _FROM_BACKUP)
    if not public.exists():
        _make_secret(public, public_to_pem(key.public))
    if _read_public(public, _FROM_BACKUP) != key.public:
        raise TwinlockError(f"{path} is not the key of {public}", hint="bring the files back from a backup")
    return key


def _refuse_lost_half(path: Path, public: Path) -> None:
    if public.exists():
        raise TwinlockError(f"{path} is missing", hint=_FROM_BACKUP)


def read_checkpoint_key(folder: Path) -> SigningKey:
    """Return the key of the checkpoints; raise where it is missing, damaged, or open to others."""
    return _read_signing_key(folder / CHECKPOINT_KEY, _FROM_BACKUP)


def read_checkpoint_public(home: Path) -> bytes:
    """Return the public key of the checkpoints; raise where it is missing or damaged."""
    return _read_public(
        home / CHECKPOINT_PUBLIC, "bring it from the home where audit_sealer was enrolled, or enroll it from this one"
    )


def has_checkpoint_public(home: Path) -> bool:
    """Tell whether this home can check what was signed of the audit log."""
    return (home / CHECKPOINT_PUBLIC).is_file()


def read_certificate_key(folder: Path) -> SigningKey:
    """Return the key of purges' certificates; raise where it is missing, damaged, or open to others."""
    return _read_signing_key(folder / CERTIFICATE_KEY, _FROM_BACKUP)


def _read_public(path: Path, find: str) -> bytes:
    try:
        return public_from_pem(path.read_bytes())
    except FileNotFoundError:
        raise TwinlockError(f"{path} is missing", hint=find) from None
    except ValueError as damaged:
        raise TwinlockError(f"{path} can't be used: {damaged}", hint=_FROM_BACKUP) from None


def make_worker_key(folder: Path, name: str) -> SigningKey:
    """Return a worker's signing key, made where there is none yet: what is there is never replaced."""
    path = folder / f"{name}.key"
    if not path.exists():
        folder.mkdir(mode=_OWN, parents=True, exist_ok=True)
        _make_secret(path, SigningKey.generate().to_pem())
    return read_worker_key(folder, name)


def read_worker_key(folder: Path, name: str) -> SigningKey:
    """Return the key with which a worker signs its calls; raise where it is missing, damaged, or open to others."""
    enroll = f"run: twinlock worker enroll {name}"
    return _read_signing_key(folder / f"{name}.key", enroll, f"remove it, then {enroll}")


def _read_signing_key(path: Path, find: str, mend: str = "") -> SigningKey:
    try:
        if path.stat().st_mode & 0o077:
            raise TwinlockError(f"{path} is open to others", hint=f"close it: chmod 600 {path}")
        return SigningKey.from_pem(path.read_bytes())
    except FileNotFoundError:
        raise TwinlockError(f"{path} is missing", hint=find) from None
    except ValueError as damaged:
        raise TwinlockError(f"{path} can't be used: {damaged}", hint=mend or find) from None


def _make_secret(path: Path, content: bytes) -> None:
    """Write a secret that appears whole or not at all; of several who make it at the same time one wins."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    with suppress(FileExistsError):
        path.hardlink_to(draft)
    draft.unlink()
    _make_durable(path.parent)


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
