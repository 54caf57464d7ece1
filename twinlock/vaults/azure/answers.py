"""What a good answer of a vault of Azure holds, read strictly: what does not fit is an unknown answer.

stored      the bytes of `value`, decoded: one block of RSA-OAEP with SHA-256, without a label: 256, 384 or 512 bytes
identity    of a version: a key that is deleted and made again has versions of other names
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinlock.keys.ports import KeyDescription
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults.azure.reasons import Reason, VaultFault
from twinlock.vaults.azure.uris import is_version
from twinlock.vaults.uris import KeyUri

ALGORITHM = "RSA-OAEP-256"
RSA_BYTES = (256, 384, 512)

_TYPES = ("RSA", "RSA-HSM")
_KNOWN_TYPES = (*_TYPES, "EC", "EC-HSM", "oct", "oct-HSM")
_KID = re.compile(r"https://[^/]{1,300}/(keys/[a-z0-9-]{1,127})/([0-9a-f]{32})")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")  # the algorithm of a public key, with no parameters
_IDENTITY = "azure:"
_MOST_SECONDS = 2**37  # a year of four digits


@dataclass(frozen=True, slots=True)
class AzureKey:
    """Hold one version of a key: its description, the size of what it wraps, and what its labels say."""

    description: KeyDescription
    size: int
    tags: dict[str, str]


def read_key(key: KeyUri, document: dict[str, Any], version: str | None = None) -> AzureKey:
    """Read one version of a key; a fault where it is of no use to us, or not to be understood."""
    found, attributes = document.get("key"), document.get("attributes")
    if not isinstance(found, dict) or not isinstance(attributes, dict):
        raise VaultFault(Reason.UNKNOWN)
    named = read_version(key, found.get("kid"))
    if version not in (None, named) or found.get("kty") not in _KNOWN_TYPES:
        raise VaultFault(Reason.UNKNOWN)
    if found["kty"] not in _TYPES:
        raise VaultFault(Reason.WRONG_TYPE)
    modulus, exponent = (_decoded(found.get(name)).lstrip(b"\0") for name in ("n", "e"))
    if len(modulus) not in RSA_BYTES or not exponent:
        raise VaultFault(Reason.WRONG_TYPE)
    fingerprint = hashlib.sha256(_public(modulus, exponent)).hexdigest()
    described = _described(key, named, fingerprint, attributes)
    return AzureKey(described, len(modulus), read_tags(document))


def _described(key: KeyUri, version: str, fingerprint: str, attributes: dict[str, Any]) -> KeyDescription:
    enabled, level = attributes.get("enabled"), attributes.get("recoveryLevel", "Purgeable")
    if not isinstance(enabled, bool) or not isinstance(level, str):
        raise VaultFault(Reason.UNKNOWN)
    return KeyDescription(
        uri=str(key),
        version=version,
        identity=f"{_IDENTITY}{version}:" + hashlib.sha256(f"{key} {version} {fingerprint}".encode()).hexdigest()[:32],
        fingerprint=fingerprint,
        algorithm=ALGORITHM,
        enabled=enabled,
        expires=read_time(attributes.get("exp")),
        recoverable=not is_purgeable(level),
    )


def version_of(identity: str) -> str:
    """Return the version that an identity is of; what is none gives something that is no version."""
    return identity.removeprefix(_IDENTITY).partition(":")[0]


def is_purgeable(level: object) -> bool:
    """Say whether a deleted key can be destroyed before its time, by whoever may."""
    return not isinstance(level, str) or "Recoverable" not in level or "Purgeable" in level


def read_version(key: KeyUri, kid: object) -> str:
    """Return the version that an identifier of our key names."""
    found = _KID.fullmatch(kid.lower()) if isinstance(kid, str) else None
    if found is None or found[1] != key.key:
        raise VaultFault(Reason.UNKNOWN)
    return found[2]


def read_time(value: object) -> datetime | None:
    """Return a time that a vault names in seconds, if it names one."""
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < _MOST_SECONDS:  # True is a number as well
        raise VaultFault(Reason.UNKNOWN)
    return datetime.fromtimestamp(value, UTC)


def read_tags(document: dict[str, Any]) -> dict[str, str]:
    """Return the labels of a key."""
    found = document.get("tags")
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def read_ciphertext(key: KeyUri, document: dict[str, Any], used: AzureKey) -> bytes:
    """Return the bytes that the vault made, with the version that was asked for."""
    ciphertext = _decoded(document.get("value"))
    if read_version(key, document.get("kid")) != used.description.version or len(ciphertext) != used.size:
        raise VaultFault(Reason.UNKNOWN)
    return ciphertext


def read_payload(key: KeyUri, document: dict[str, Any], version: str) -> bytes:
    """Return the 64 bytes."""
    if read_version(key, document.get("kid")) != version:
        raise VaultFault(Reason.UNKNOWN)
    payload = _decoded(document.get("value"))
    if len(payload) != PAYLOAD_BYTES:
        raise VaultFault(Reason.NOT_DECRYPTED)
    return payload


def check_version(version: str) -> str:
    """Return a version, or raise the fault that says it is gone: it never was."""
    if not is_version(version):
        raise VaultFault(Reason.VERSION_GONE)
    return version


def encoded(data: bytes) -> str:
    """Return bytes as a vault takes them."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: object) -> bytes:
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise VaultFault(Reason.UNKNOWN)
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise VaultFault(Reason.UNKNOWN) from None
    if encoded(data) != text:
        raise VaultFault(Reason.UNKNOWN)
    return data


def _public(modulus: bytes, exponent: bytes) -> bytes:
    """Return the DER of a public key, which is what every other tool takes the fingerprint of."""
    numbers = b"".join(_der(0x02, (b"\0" if each[0] & 0x80 else b"") + each) for each in (modulus, exponent))
    return _der(0x30, _RSA + _der(0x03, b"\0" + _der(0x30, numbers)))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
