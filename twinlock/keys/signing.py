"""Signatures: Ed25519 (RFC 8032) over `label || 0x00 || body`: bytes signed for one use are void for any other."""

from hashlib import sha256

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from twinlock.keys.guarded import Guarded

SIGNATURE_BYTES = 64
FINGERPRINT_BYTES = 32


class BadSignature(Exception):
    """Say that a signature does not fit: another key, another body, or another use."""


class SigningKey(Guarded):
    """Hold an Ed25519 private key."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a key from the system's random source."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> "SigningKey":
        """Read a key from an unencrypted PKCS #8 file; ValueError if it holds none."""
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("there is no private key in it") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the key in it is not Ed25519")
        return cls(key)

    def to_pem(self) -> bytes:
        """Return the secret file's content."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, label: bytes, body: bytes) -> bytes:
        """Return the 64 bytes of the signature."""
        return self._key.sign(_labelled(label, body))


def verify(public: bytes, label: bytes, body: bytes, signature: bytes) -> None:
    """Raise `BadSignature` unless the holder of the private key signed this body for this use."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _labelled(label, body))
    except (InvalidSignature, ValueError):
        raise BadSignature from None


def public_to_pem(public: bytes) -> bytes:
    """Return the file of a public key: SubjectPublicKeyInfo, PEM, as every tool reads it."""
    return Ed25519PublicKey.from_public_bytes(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_from_pem(pem: bytes) -> bytes:
    """Read such a file; ValueError if it holds no Ed25519 public key."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("there is no public key in it") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the key in it is not Ed25519")
    return key.public_bytes_raw()


def fingerprint(public: bytes) -> bytes:
    """Return the 32 bytes that name a public key: its SHA-256."""
    return sha256(public).digest()


def _labelled(label: bytes, body: bytes) -> bytes:
    return label + b"\x00" + body
