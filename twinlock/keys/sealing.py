"""Seal bytes to a one-time key: HPKE (RFC 9180), base mode, X25519, HKDF-SHA256 and AES-256-GCM.

A sealed message is `encapsulated key (32) || ciphertext || tag (16)`. HPKE itself says nothing about who sealed: what
has to come from somebody is signed as well.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from twinlock.keys.errors import DecryptionError
from twinlock.keys.guarded import Guarded

SEAL_OVERHEAD = 48

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class OneTimeKey(Guarded):
    """Hold an X25519 private key that opens the answer to one request, and is forgotten with it."""

    __slots__ = ("_key", "public")

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return what was sealed to this key for this use, or raise `DecryptionError`."""
        try:
            return _SUITE.decrypt(sealed, self._key, info=info)
        except (InvalidTag, ValueError):
            raise DecryptionError from None


def seal(plaintext: bytes | bytearray, public: bytes, info: bytes) -> bytes:
    """Seal bytes to a public key; ValueError where it is none that anybody could open with."""
    return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info=info)
