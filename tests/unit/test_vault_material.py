"""Software keys: the bytes they make, built and read by hand, and what they refuse to be."""

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twinlock.keys.secret import SecretKey
from twinlock.vaults.software.material import (
    AES_GCM,
    RSA_OAEP,
    AesMaterial,
    Material,
    RsaMaterial,
    generate_aes,
    generate_rsa_key,
    parse,
)
from twinlock.vaults.software.reasons import Reason, VaultFault

PAYLOAD, CONTEXT = bytes(range(64)), b"place"
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
RAW = bytes(range(32))


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    """Make one key of the real size."""
    return generate_rsa_key()


@pytest.fixture(params=[RSA_OAEP, AES_GCM])
def material(request: pytest.FixtureRequest, rsa_key: rsa.RSAPrivateKey) -> Material:
    """Bring each kind of key in turn."""
    return RsaMaterial(rsa_key) if request.param == RSA_OAEP else generate_aes()


def pkcs8(key: PrivateKeyTypes) -> bytes:
    """Return a private key as a key file would hold it."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def reason(algorithm: str, secret: bytes) -> Reason:
    """Return why bytes are not read as a key."""
    with pytest.raises(VaultFault) as caught:
        parse(algorithm, secret)
    return caught.value.reason


def test_real_size(rsa_key: rsa.RSAPrivateKey) -> None:
    """Root keys are RSA-3072 unless a test hands out its own."""
    assert (3072, 65537) == (rsa_key.key_size, rsa_key.public_key().public_numbers().e)


def test_export(material: Material) -> None:
    """What a key exports is read as the same key."""
    again = parse(material.algorithm, material.export())

    assert material.fingerprint == again.fingerprint
    assert PAYLOAD == again.unwrap(material.wrap(PAYLOAD, CONTEXT), CONTEXT)


def test_never_the_same(material: Material) -> None:
    """The same payload wrapped twice gives different bytes."""
    assert material.wrap(PAYLOAD, CONTEXT) != material.wrap(PAYLOAD, CONTEXT)


def test_redacted(material: Material) -> None:
    """A key does not print itself."""
    assert "redacted" in repr(material)
    assert material.export()[:8].hex() not in repr(material)


def test_rsa_wire(rsa_key: rsa.RSAPrivateKey) -> None:
    """Any RSA-OAEP with SHA-256 and no label reads an answer and makes one that is read."""
    material = RsaMaterial(rsa_key)

    assert PAYLOAD == rsa_key.decrypt(material.wrap(PAYLOAD, CONTEXT), OAEP)
    assert PAYLOAD == material.unwrap(rsa_key.public_key().encrypt(PAYLOAD, OAEP), CONTEXT)


def test_rsa_fingerprint(rsa_key: rsa.RSAPrivateKey) -> None:
    """The fingerprint of a root key is the SHA-256 of its public key, as every tool computes it (law 1)."""
    info = rsa_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    assert hashlib.sha256(info).hexdigest() == RsaMaterial(rsa_key).fingerprint


def test_aes_wire() -> None:
    """An availability key's answer is a format byte, a nonce, and AES-GCM with the context as associated data."""
    material = AesMaterial(SecretKey(RAW))
    wrapped = material.wrap(PAYLOAD, CONTEXT)
    built = b"\x01" + bytes(12) + AESGCM(RAW).encrypt(bytes(12), PAYLOAD, CONTEXT)

    assert (93, 1) == (len(wrapped), wrapped[0])
    assert PAYLOAD == AESGCM(RAW).decrypt(wrapped[1:13], wrapped[13:], CONTEXT)
    assert PAYLOAD == material.unwrap(built, CONTEXT)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_other_size(material: Material, rsa_key: rsa.RSAPrivateKey, size: int) -> None:
    """Bytes that decrypt to anything but 64 bytes do not decrypt."""
    if material.algorithm == RSA_OAEP:
        wrapped = rsa_key.public_key().encrypt(bytes(size), OAEP)
    else:
        wrapped = b"\x01" + bytes(12) + AESGCM(material.export()).encrypt(bytes(12), bytes(size), CONTEXT)
    with pytest.raises(VaultFault) as caught:
        material.unwrap(wrapped, CONTEXT)

    assert Reason.NOT_DECRYPTED is caught.value.reason


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 1024),  # noqa: S505 - it must be refused
    ],
    ids=["ec", "ed25519", "weak"],
)
def test_wrong_type(key: PrivateKeyTypes) -> None:
    """A key that is not RSA, or is too short, is of the wrong type."""
    assert Reason.WRONG_TYPE is reason(RSA_OAEP, pkcs8(key))


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_wrong_aes_size(size: int) -> None:
    """An AES key of any size but 32 bytes is of the wrong type."""
    assert Reason.WRONG_TYPE is reason(AES_GCM, bytes(size))


def test_unknown_algorithm() -> None:
    """An algorithm that this version does not know is of the wrong type."""
    assert Reason.WRONG_TYPE is reason("ROT13", RAW)


def test_inconsistent_primes(rsa_key: rsa.RSAPrivateKey) -> None:
    """An RSA key with a changed byte is damaged: a wrong private half could leak the right one."""
    secret = bytearray(pkcs8(rsa_key))
    secret[-20] ^= 1  # within the last number

    assert Reason.DAMAGED is reason(RSA_OAEP, bytes(secret))
