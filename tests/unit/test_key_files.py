"""Keys in files: what is read, and what is refused in words."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from twinlock.keys.signing import SigningKey, public_from_pem

KEY, OTHER = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()


def _public(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _private(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_read() -> None:
    """Both halves of a pair are read from PEM as OpenSSL writes it, and are of one key."""
    raw = KEY.public_key().public_bytes_raw()

    assert raw == public_from_pem(_public(KEY)) == SigningKey.from_pem(_private(KEY)).public


@pytest.mark.parametrize("pem", [b"", b"\xff" * 64, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_no_key(pem: bytes) -> None:
    """What holds no key is refused, and so is a private key where a public one has to be."""
    for text in (pem, _private(KEY)):
        with pytest.raises(ValueError, match="there is no public key in it"):
            public_from_pem(text)


def test_another_kind() -> None:
    """A key that is not Ed25519 is refused, and one behind a passphrase."""
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    with pytest.raises(ValueError, match="not Ed25519"):
        public_from_pem(_public(OTHER))
    with pytest.raises(ValueError, match="not Ed25519"):
        SigningKey.from_pem(_private(OTHER))
    with pytest.raises(ValueError, match="there is no private key in it"):
        SigningKey.from_pem(locked)
