"""The two kinds of software key: RSA with OAEP-256 for root keys, AES-256-GCM for availability keys.

An RSA answer is the bare OAEP block (SHA-256 for the hash and for MGF1, no label), so that any implementation reads it.
An AES answer is

    0x01 || nonce (12) || ciphertext (64) || tag (16)

with the context as associated data. Neither holds a version number: that stands beside it, in `WrappedKey`.
"""

import hashlib
import os
from typing import Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twinlock.keys.guarded import Guarded
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.keys.secret import KEY_BYTES, SecretKey
from twinlock.vaults.software.reasons import Reason, VaultFault

RSA_OAEP = "RSA-OAEP-256"
AES_GCM = "AES-256-GCM"

_RSA_BITS = 3072
_RSA_LEAST_BITS = 2048
_AES_FORMAT = b"\x01"
_NONCE_BYTES = 12
_AES_ANSWER_BYTES = len(_AES_FORMAT) + _NONCE_BYTES + PAYLOAD_BYTES + 16
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class Material(Protocol):
    """Be one version of a key; both operations may be called from any thread."""

    @property
    def algorithm(self) -> str:
        """Name the algorithm."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tell this version from every other, in hex, without giving anything away."""
        ...

    def wrap(self, payload: bytes, context: bytes) -> bytes:
        """Encrypt 64 bytes."""
        ...

    def unwrap(self, ciphertext: bytes, context: bytes) -> bytes:
        """Return the 64 bytes, or raise the fault that says nothing about why it failed."""
        ...

    def export(self) -> bytes:
        """Return the secret bytes that `parse` reads."""
        ...


class RsaMaterial(Guarded):
    """Wrap with RSA-OAEP-256. It has no associated data: the 64 bytes hold the context's digest themselves."""

    __slots__ = ("_key", "fingerprint")

    algorithm = RSA_OAEP

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        if key.key_size < _RSA_LEAST_BITS:
            raise VaultFault(Reason.WRONG_TYPE)
        self._key = key
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.fingerprint = hashlib.sha256(public).hexdigest()

    def wrap(self, payload: bytes, context: bytes) -> bytes:
        """Encrypt 64 bytes to the public half."""
        return self._key.public_key().encrypt(payload, _OAEP)

    def unwrap(self, ciphertext: bytes, context: bytes) -> bytes:
        """Return the 64 bytes, or raise the fault that says nothing about why it failed."""
        try:
            payload = self._key.decrypt(ciphertext, _OAEP)
        except ValueError:
            raise VaultFault(Reason.NOT_DECRYPTED) from None
        return _sized(payload, Reason.NOT_DECRYPTED)

    def export(self) -> bytes:
        """Return the secret bytes that `parse` reads: PKCS #8, unencrypted."""
        return self._key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


class AesMaterial(Guarded):
    """Wrap with AES-256-GCM, the context as associated data. Nonces are random: a key wraps a handful of times."""

    __slots__ = ("_key", "fingerprint")

    algorithm = AES_GCM

    def __init__(self, key: SecretKey) -> None:
        self._key = key
        self.fingerprint = key.commitment().hex()

    def wrap(self, payload: bytes, context: bytes) -> bytes:
        """Encrypt 64 bytes, bound to their context."""
        nonce = os.urandom(_NONCE_BYTES)
        return _AES_FORMAT + nonce + AESGCM(self._key.expose()).encrypt(nonce, payload, context)

    def unwrap(self, ciphertext: bytes, context: bytes) -> bytes:
        """Return the 64 bytes, or raise the fault that says nothing about why it failed."""
        if len(ciphertext) != _AES_ANSWER_BYTES or not ciphertext.startswith(_AES_FORMAT):
            raise VaultFault(Reason.NOT_DECRYPTED)
        nonce, body = ciphertext[1 : 1 + _NONCE_BYTES], ciphertext[1 + _NONCE_BYTES :]
        try:
            return AESGCM(self._key.expose()).decrypt(nonce, body, context)
        except InvalidTag:
            raise VaultFault(Reason.NOT_DECRYPTED) from None

    def export(self) -> bytes:
        """Return the secret bytes that `parse` reads."""
        return bytes(self._key.expose())


def generate_rsa_key() -> rsa.RSAPrivateKey:
    """Make an RSA-3072 key; it takes up to a second."""
    return rsa.generate_private_key(65537, _RSA_BITS)


def generate_aes() -> Material:
    """Make an AES-256 key."""
    return AesMaterial(SecretKey.generate())


def parse(algorithm: str, secret: bytes) -> Material:
    """Read what `export` gave; a fault where it is damaged or is no key of that algorithm."""
    if algorithm == AES_GCM:
        if len(secret) != KEY_BYTES:
            raise VaultFault(Reason.WRONG_TYPE)
        return AesMaterial(SecretKey(secret))
    if algorithm != RSA_OAEP:
        raise VaultFault(Reason.WRONG_TYPE)
    try:
        key = serialization.load_der_private_key(secret, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise VaultFault(Reason.DAMAGED) from None  # the parser's text may quote its input
    if not isinstance(key, rsa.RSAPrivateKey):
        raise VaultFault(Reason.WRONG_TYPE)
    return RsaMaterial(key)


def check_payload(payload: bytes) -> bytes:
    """Return the payload if it has the one size that is ever wrapped."""
    return _sized(payload, Reason.WRONG_SIZE)


def _sized(payload: bytes, reason: Reason) -> bytes:
    if len(payload) != PAYLOAD_BYTES:
        raise VaultFault(reason)
    return payload
