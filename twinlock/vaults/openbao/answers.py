"""What a good answer of OpenBao Transit holds, read strictly: what does not fit is an unknown answer.

stored      the bytes behind `vault:vN:`, decoded; N stands beside them, in `WrappedKey.version`
RSA         one block of RSA-OAEP with SHA-256, without a label: 256, 384 or 512 bytes
AES         nonce (12) || ciphertext (64) || tag (16), the context as associated data
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinlock.keys.ports import KeyDescription
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults.openbao.reasons import Reason, VaultFault

ALGORITHMS = {
    "rsa-2048": "RSA-OAEP-256",
    "rsa-3072": "RSA-OAEP-256",
    "rsa-4096": "RSA-OAEP-256",
    "aes256-gcm96": "AES-256-GCM",
}
AES_BYTES = 12 + PAYLOAD_BYTES + 16
RSA_BYTES = (256, 384, 512)

_PREFIX = "vault"
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_CIPHERTEXT = re.compile(rf"{_PREFIX}:v([1-9][0-9]{{0,8}}):([A-Za-z0-9+/]+={{0,2}})")
_PEM = re.compile(r"\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*")
_MOST_IDENTITIES = 500


@dataclass(frozen=True, slots=True)
class TransitKey:
    """Hold what the server says of a key; of each version its identity and its fingerprint."""

    uri: str
    type: str
    latest: int
    least: int
    deletion_allowed: bool
    versions: Mapping[int, tuple[str, str]]

    def describe(self, version: str | None = None) -> KeyDescription:
        """Describe one version (default: the newest), or raise the fault that says it is gone."""
        number = self.latest if version is None else self._number(version)
        identity, fingerprint = self.versions[number]
        newest = sorted(self.versions, reverse=True)[:_MOST_IDENTITIES]
        return KeyDescription(
            uri=self.uri,
            version=str(number),
            identity=identity,
            fingerprint=fingerprint,
            algorithm=ALGORITHMS[self.type],
            enabled=True,
            expires=None,
            recoverable=not self.deletion_allowed,
            identities=tuple(self.versions[each][0] for each in newest),
        )

    def _number(self, version: str) -> int:
        number = int(version) if _VERSION.fullmatch(version) else 0
        if number in self.versions:
            return number
        raise VaultFault(Reason.VERSION_REFUSED if 0 < number < self.least else Reason.VERSION_GONE)


def read_key(uri: str, data: dict[str, Any]) -> TransitKey:
    """Read a key's description; a fault where it is deleted, of no use to us, or not to be understood."""
    if data.get("soft_deleted") is True:
        raise VaultFault(Reason.DELETED)
    kind, derived = data.get("type"), data.get("derived")
    versions, latest, least = data.get("keys"), data.get("latest_version"), data.get("min_decryption_version")
    if not isinstance(kind, str) or not isinstance(derived, bool):
        raise VaultFault(Reason.UNKNOWN)
    if kind not in ALGORITHMS or derived:
        raise VaultFault(Reason.WRONG_TYPE)
    if not isinstance(versions, dict) or type(latest) is not int or type(least) is not int:  # True is a number as well
        raise VaultFault(Reason.UNKNOWN)
    read = {_known(number): _version(uri, kind, number, found) for number, found in versions.items()}
    if latest not in read:
        raise VaultFault(Reason.UNKNOWN)
    return TransitKey(uri, kind, latest, least, data.get("deletion_allowed") is not False, read)


def _known(number: str) -> int:
    if not _VERSION.fullmatch(number):
        raise VaultFault(Reason.UNKNOWN)
    return int(number)


def _version(uri: str, kind: str, number: str, found: object) -> tuple[str, str]:
    """Return identity and fingerprint: of an AES key no more is known than when it was made, to the second."""
    if isinstance(found, dict) and kind != "aes256-gcm96":
        made, public = found.get("creation_time"), _public(found.get("public_key"))
        fingerprint = hashlib.sha256(public).hexdigest()
        return _identity(uri, kind, number, f"{made} {fingerprint}"), fingerprint
    if type(found) is int and kind == "aes256-gcm96":
        identity = _identity(uri, kind, number, str(found))
        return identity, hashlib.sha256(f"fingerprint {identity}".encode()).hexdigest()
    raise VaultFault(Reason.UNKNOWN)


def _identity(uri: str, kind: str, number: str, made: str) -> str:
    return "openbao:" + hashlib.sha256(f"{uri} {kind} {number} {made}".encode()).hexdigest()[:32]


def _public(text: object) -> bytes:
    """Return the DER of a public key, which is what every other tool takes the fingerprint of."""
    found = _PEM.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise VaultFault(Reason.UNKNOWN)
    return _decoded("".join(found[1].split()))


def read_ciphertext(data: dict[str, Any], version: str) -> bytes:
    """Return the bytes that the server made, with the version that was asked for."""
    text = data.get("ciphertext")
    found = _CIPHERTEXT.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[1] != version:
        raise VaultFault(Reason.UNKNOWN)
    ciphertext = _decoded(found[2])
    if not is_ciphertext(ciphertext):
        raise VaultFault(Reason.UNKNOWN)
    return ciphertext


def is_ciphertext(ciphertext: bytes) -> bool:
    """Say whether bytes can be what a key of ours has made of 64."""
    return len(ciphertext) == AES_BYTES or len(ciphertext) in RSA_BYTES


def ciphertext_text(ciphertext: bytes, version: str) -> str:
    """Return the text that the server has made of the bytes; a fault where the version is none."""
    if not _VERSION.fullmatch(version):
        raise VaultFault(Reason.VERSION_GONE)
    return f"{_PREFIX}:v{version}:{encoded(ciphertext)}"


def read_payload(data: dict[str, Any]) -> bytes:
    """Return the 64 bytes."""
    text = data.get("plaintext")
    payload = _decoded(text) if isinstance(text, str) else b""
    if len(payload) != PAYLOAD_BYTES:
        raise VaultFault(Reason.NOT_DECRYPTED)
    return payload


def encoded(data: bytes) -> str:
    """Return bytes as the server takes them."""
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise VaultFault(Reason.UNKNOWN) from None
    if encoded(data) != text:
        raise VaultFault(Reason.UNKNOWN)
    return data
