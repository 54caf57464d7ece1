"""Wrap one key under another, below the vaults.

    0x01 || nonce (12) || encrypted key (32) || tag (16) || commitment (32)

KEK || commitment is one HKDF expansion of the wrapping key with the context in info; the context is associated data
as well. AES-GCM alone commits to no key: one ciphertext can be made to open under two. The commitment is what stops a
row from meaning one key to one reader and another to the next.
"""

import hmac

from twinlock.keys import kdf
from twinlock.keys.aead import OVERHEAD_BYTES, Aead
from twinlock.keys.context import Context
from twinlock.keys.errors import DecryptionError
from twinlock.keys.secret import KEY_BYTES, SecretKey

VERSION = b"\x01"
WRAPPED_KEY_BYTES = len(VERSION) + OVERHEAD_BYTES + KEY_BYTES + kdf.COMMITMENT_BYTES


def wrap_key(wrapping: SecretKey, key: SecretKey, context: Context) -> bytes:
    """Return `WRAPPED_KEY_BYTES` bytes that open under this wrapping key in this context alone."""
    encoded = context.encode()
    aead, commitment = _expand(wrapping, encoded)
    wrapped = VERSION + aead.encrypt(key.expose(), encoded) + commitment
    key.expose()  # refuses if another thread wiped the key meanwhile
    return wrapped


def unwrap_key(wrapping: SecretKey, wrapped: bytes, context: Context) -> SecretKey:
    """Return the key, or raise DecryptionError."""
    if len(wrapped) != WRAPPED_KEY_BYTES or wrapped[:1] != VERSION:
        raise DecryptionError
    encoded = context.encode()
    aead, commitment = _expand(wrapping, encoded)
    if not hmac.compare_digest(commitment, wrapped[-kdf.COMMITMENT_BYTES :]):
        raise DecryptionError
    buffer = bytearray(KEY_BYTES)
    aead.decrypt_into(wrapped[len(VERSION) : -kdf.COMMITMENT_BYTES], encoded, buffer)
    return SecretKey.take(buffer)


def _expand(wrapping: SecretKey, encoded: bytes) -> tuple[Aead, bytes]:
    buffer = bytearray(KEY_BYTES + kdf.COMMITMENT_BYTES)
    kdf.derive_into(wrapping, kdf.Label.WRAP, encoded, buffer)
    aead, commitment = Aead(memoryview(buffer)[:KEY_BYTES]), bytes(buffer[KEY_BYTES:])
    buffer[:] = bytes(len(buffer))
    return aead, commitment
