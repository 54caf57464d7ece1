"""Key derivation: HKDF-SHA256 (RFC 5869), one label for each purpose.

info is `label || 0x00 || what the caller adds`. No label holds a zero byte, so two purposes never share an info. The
salt is empty: every input key is uniform already, and a random salt would have to be stored beside each key.
"""

from enum import StrEnum
from typing import Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

COMMITMENT_BYTES = 32


class Label(StrEnum):
    """Name every purpose that a key is derived for; a new purpose, or a changed format, is a new label."""

    COMMITMENT = "twinlock.commitment.v1"
    WRAP = "twinlock.wrap.v1"
    ITEM = "twinlock.item.v1"
    ITEM_STREAM = "twinlock.item-stream.v1"
    IMPORT = "twinlock.import.v1"
    BLOB = "twinlock.blob.v1"
    CONTENT_MAC = "twinlock.content-mac.v1"


class KeyMaterial(Protocol):
    """Lend the bytes of a key."""

    def expose(self) -> bytearray:
        """Return the key's own buffer, or raise if it was wiped."""
        ...


def hkdf_into(key: KeyMaterial, salt: bytes, info: bytes, buffer: bytearray) -> None:
    """Fill a buffer by HKDF-SHA256, so that what is derived can be wiped."""
    HKDF(SHA256(), len(buffer), salt, info).derive_into(key.expose(), buffer)
    key.expose()  # refuses if another thread wiped the key meanwhile: zeros may have been read


def derive_into(key: KeyMaterial, label: str, info: bytes, buffer: bytearray) -> None:
    """Fill a buffer with what this key gives for a label and an info; ValueError for a label not in `Label`."""
    hkdf_into(key, b"", Label(label).encode() + b"\x00" + info, buffer)


def derive(key: KeyMaterial, label: str, info: bytes = b"", length: int = 32) -> bytes:
    """Return what this key gives for a label and an info; ValueError for a label not in `Label`."""
    buffer = bytearray(length)
    derive_into(key, label, info, buffer)
    return bytes(buffer)


def commitment(key: KeyMaterial) -> bytes:
    """Return the 32 public bytes that fit this key and, as far as anyone can compute, no other (law 1)."""
    return derive(key, Label.COMMITMENT, length=COMMITMENT_BYTES)
