"""AES-256-GCM, the only place where it is called.

Nonces are 96 bits and tags 128: the one form that NIST recommends and Tink reads.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twinlock.keys.errors import DecryptionError
from twinlock.keys.guarded import Buffer, Guarded

NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES


class Aead(Guarded):
    """Encrypt and decrypt under one key, whose schedule is set up once.

    OpenSSL keeps its own copy of the key and cleanses it when this object goes; the caller may wipe `key` at once.
    """

    __slots__ = ("_gcm",)

    def __init__(self, key: Buffer) -> None:
        if len(key) != 32:
            raise ValueError("AES-256 takes a key of 32 bytes")  # AESGCM would quietly take 16 or 24
        self._gcm = AESGCM(key)

    def encrypt(self, plaintext: Buffer, associated: bytes) -> bytes:
        """Return nonce || ciphertext || tag under a fresh random nonce."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self.seal(nonce, plaintext, associated)

    def decrypt(self, sealed: Buffer, associated: bytes) -> bytes:
        """Open nonce || ciphertext || tag, or raise DecryptionError."""
        if len(sealed) < OVERHEAD_BYTES:
            raise DecryptionError
        view = memoryview(sealed)
        return self.open(view[:NONCE_BYTES], view[NONCE_BYTES:], associated)

    def decrypt_into(self, sealed: Buffer, associated: bytes, buffer: bytearray) -> None:
        """Open what must fill this buffer exactly, so that a decrypted key can be wiped, or raise DecryptionError."""
        if len(sealed) != OVERHEAD_BYTES + len(buffer):
            raise DecryptionError
        view = memoryview(sealed)
        try:
            self._gcm.decrypt_into(view[:NONCE_BYTES], view[NONCE_BYTES:], associated, buffer)
        except InvalidTag:
            raise DecryptionError from None

    def seal(self, nonce: Buffer, plaintext: Buffer, associated: bytes) -> bytes:
        """Return ciphertext || tag; the caller promises never to use the nonce again."""
        return self._gcm.encrypt(nonce, plaintext, associated)

    def seal_into(self, nonce: Buffer, plaintext: Buffer, associated: bytes, buffer: memoryview) -> None:
        """Fill a buffer with ciphertext || tag; the caller promises never to use the nonce again."""
        self._gcm.encrypt_into(nonce, plaintext, associated, buffer)

    def open_into(self, nonce: Buffer, ciphertext: Buffer, associated: bytes, buffer: memoryview) -> None:
        """Open ciphertext || tag into a buffer that it fills exactly, or raise DecryptionError and leave it zeroed."""
        try:
            self._gcm.decrypt_into(nonce, ciphertext, associated, buffer)
        except InvalidTag:
            buffer[:] = bytes(len(buffer))
            raise DecryptionError from None

    def open(self, nonce: Buffer, ciphertext: Buffer, associated: bytes) -> bytes:
        """Open ciphertext || tag, or raise DecryptionError."""
        try:
            return self._gcm.decrypt(nonce, ciphertext, associated)
        except InvalidTag:
            raise DecryptionError from None
