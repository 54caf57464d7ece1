"""The 64 bytes that a vault wraps: policy key || SHA-256(context).

RSA wrapping has no associated data, so the place a policy key belongs to travels inside what is wrapped.
"""

import hmac

from cryptography.hazmat.primitives.hashes import SHA256, Hash

from twinlock.keys.context import PolicyKeyContext
from twinlock.keys.errors import DecryptionError
from twinlock.keys.secret import KEY_BYTES, SecretKey

PAYLOAD_BYTES = 64


def seal(key: SecretKey, context: PolicyKeyContext) -> bytes:
    """Return what a vault is given to wrap; it holds the key in the clear."""
    payload = bytes(key.expose()) + _digest(context)
    key.expose()  # refuses if another thread wiped the key meanwhile
    return payload


def open_payload(payload: bytes, context: PolicyKeyContext, commitment: bytes) -> SecretKey:
    """Return the policy key if the answer is for this place and fits the commitment (law 1), or raise DecryptionError.

    Both checks are always made: the time must not say which one failed.
    """
    if len(payload) != PAYLOAD_BYTES:
        raise DecryptionError
    key = SecretKey(memoryview(payload)[:KEY_BYTES])
    placed = hmac.compare_digest(payload[KEY_BYTES:], _digest(context))
    if not hmac.compare_digest(key.commitment(), commitment) or not placed:
        key.wipe()
        raise DecryptionError
    return key


def _digest(context: PolicyKeyContext) -> bytes:
    digest = Hash(SHA256())
    digest.update(context.encode())
    return digest.finalize()
