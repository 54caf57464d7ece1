"""What a token is known to hold under one label, read strictly: what does not fit is an unknown answer.

Every version of a key is an object of its own with the key's label; its number is its CKA_ID, read as a number, and the
highest is the newest. What we store of a wrapped key is

    0x01 || nonce (12) || ciphertext (64) || tag (16)

by AES-256-GCM with the context as associated data; its version stands beside it, in `WrappedKey`, in hex.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from twinlock.keys.ports import KeyDescription
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults.pkcs11.frames import BadFrame, unpacked
from twinlock.vaults.pkcs11.reasons import Reason, VaultFault

ALGORITHM = "AES-256-GCM"
AVAILABILITY, DESTROYED = "availability", "destroyed"

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_SEALED_BYTES = PAYLOAD_BYTES + 16
_VERSION = re.compile(r"[1-9a-f][0-9a-f]{0,63}")
_HEX = re.compile(r"(?:[0-9a-f]{2}){0,32}")
_DATE = re.compile(r"[0-9]{8}")
_NO_DATE = ("", "00000000", "\0" * 8)


@dataclass(frozen=True, slots=True)
class Version:
    """Hold what is known of one version of a key; `check` is its check value, where the token tells it."""

    check: str
    is_aes256: bool
    encrypts: bool
    decrypts: bool
    expires: datetime | None

    @property
    def is_off(self) -> bool:
        """Say whether its owner lets nobody use it."""
        return not self.encrypts and not self.decrypts


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Hold every version of a key, and what was recorded of it beside them."""

    uri: str
    versions: Mapping[int, Version]
    records: frozenset[str]

    def newest(self) -> str:
        """Name the version that wraps, or raise the fault that says why there is none."""
        self._check()
        live = [number for number, version in self.versions.items() if not version.is_off]
        if not live:
            raise VaultFault(Reason.SWITCHED_OFF)
        return f"{max(live):x}"

    def describe(self, version: str | None = None) -> KeyDescription:
        """Describe one version (default: the newest), or raise the fault that says why it is not there."""
        text = self.newest() if version is None else version
        found = self._version(text)
        return KeyDescription(
            uri=self.uri,
            version=text,
            identity=self._identity(int(text, 16)),
            fingerprint=hashlib.sha256(f"fingerprint {self._identity(int(text, 16))}".encode()).hexdigest(),
            algorithm=ALGORITHM,
            enabled=found.encrypts and found.decrypts,
            expires=found.expires,
            # Of a root key nobody can tell but its owner, who has the token's backup.
            recoverable=AVAILABILITY not in self.records,
            identities=tuple(map(self._identity, sorted(self.versions, reverse=True))),
        )

    def check_wraps(self, version: str) -> None:
        """Raise the fault that forbids a version to wrap."""
        if not self._version(version).encrypts:
            raise VaultFault(Reason.SWITCHED_OFF)

    def check_unwraps(self, version: str, identity: str) -> None:
        """Raise the fault that forbids a version to unwrap what a key of that identity has wrapped."""
        self._check(unknown=Reason.GONE)  # who holds a wrapped key knows that its key existed
        if not is_version(version) or int(version, 16) not in self.versions:
            raise VaultFault(Reason.VERSION_GONE)
        if identity not in map(self._identity, self.versions):
            raise VaultFault(Reason.REPLACED)
        if not self._version(version).decrypts:
            raise VaultFault(Reason.SWITCHED_OFF)

    def check_ours(self) -> None:
        """Raise a fault where the key was not made here as an availability key."""
        self._check()
        if AVAILABILITY not in self.records:
            raise VaultFault(Reason.WRONG_PURPOSE)

    def _check(self, unknown: Reason = Reason.UNKNOWN_KEY) -> None:
        if DESTROYED in self.records:
            raise VaultFault(Reason.DESTROYED)
        if not self.versions:
            raise VaultFault(unknown)

    def _version(self, version: str) -> Version:
        self._check()
        found = self.versions.get(int(version, 16)) if is_version(version) else None
        if found is None:
            raise VaultFault(Reason.VERSION_GONE)
        if not found.is_aes256:
            raise VaultFault(Reason.WRONG_TYPE)
        if found.is_off:
            raise VaultFault(Reason.SWITCHED_OFF)
        return found

    def _identity(self, number: int) -> str:
        """Return what changes when a key is made again: its check value, and its CKA_ID if the owner keeps to that.

        Not the token's serial number: a backup brings the same key back on another device.
        """
        text = f"{self.uri} {number:x} {self.versions[number].check}"
        return "pkcs11:" + hashlib.sha256(text.encode()).hexdigest()[:32]


def read_keys(uri: str, found: dict[str, Any]) -> TokenKeys:
    """Read what a token holds under one label."""
    keys, records = found.get("keys"), found.get("records")
    if not isinstance(keys, list) or not isinstance(records, list):
        raise VaultFault(Reason.UNKNOWN)
    versions: dict[int, Version] = {}
    for each in keys:
        number, version = _version(each)
        if number in versions or number == 0:
            raise VaultFault(Reason.AMBIGUOUS)
        versions[number] = version
    return TokenKeys(uri, versions, frozenset(each for each in records if isinstance(each, str)))


def is_version(text: str) -> bool:
    """Say whether a text can name a version."""
    return _VERSION.fullmatch(text) is not None


def read_ciphertext(found: dict[str, Any]) -> bytes:
    """Return what we store of a wrapped key."""
    return _FORMAT + _sized(found.get("nonce"), _NONCE_BYTES) + _sized(found.get("data"), _SEALED_BYTES)


def split_ciphertext(stored: bytes) -> tuple[bytes, bytes]:
    """Return the nonce and what the token decrypts; a fault where it can't be what a token has made of 64 bytes."""
    if len(stored) != len(_FORMAT) + _NONCE_BYTES + _SEALED_BYTES or not stored.startswith(_FORMAT):
        raise VaultFault(Reason.NOT_DECRYPTED)
    return stored[1 : 1 + _NONCE_BYTES], stored[1 + _NONCE_BYTES :]


def read_payload(found: dict[str, Any]) -> bytes:
    """Return the 64 bytes."""
    return _sized(found.get("data"), PAYLOAD_BYTES)


def _version(found: object) -> tuple[int, Version]:
    if not isinstance(found, dict):
        raise VaultFault(Reason.UNKNOWN)
    flags = [found.get(name) for name in ("aes256", "encrypt", "decrypt")]
    texts = [found.get(name) for name in ("id", "check")]
    if not all(isinstance(each, bool) for each in flags) or not all(map(_is_hex, texts)):
        raise VaultFault(Reason.UNKNOWN)
    version = Version(str(texts[1]), bool(flags[0]), bool(flags[1]), bool(flags[2]), _expiry(found.get("ends")))
    return int(str(texts[0]) or "0", 16), version


def _is_hex(text: object) -> bool:
    return isinstance(text, str) and _HEX.fullmatch(text) is not None


def _expiry(date: object) -> datetime | None:
    """Return the moment after the last day of a key."""
    if date in _NO_DATE:
        return None
    try:
        if not isinstance(date, str) or not _DATE.fullmatch(date):
            raise ValueError(date)
        return datetime(int(date[:4]), int(date[4:6]), int(date[6:]), tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise VaultFault(Reason.UNKNOWN) from None


def _sized(text: object, size: int) -> bytes:
    try:
        data = unpacked(text)
    except BadFrame:
        raise VaultFault(Reason.UNKNOWN) from None
    if len(data) != size:
        raise VaultFault(Reason.UNKNOWN)
    return data
