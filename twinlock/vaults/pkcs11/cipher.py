"""AES-GCM by a key on a token, and the proof of whose fault it is where bytes do not decrypt."""

import os

from pkcs11 import Mechanism, PKCS11Error
from pkcs11.mechanisms import GCMParams

from twinlock.vaults.pkcs11.codes import code_of
from twinlock.vaults.pkcs11.objects import Key, Refusal

_NONCE_BYTES = 12
_TAG_BITS = 128
_PROOF_BYTES = 32
# With these some libraries say that bytes do not decrypt, and others that the token is in trouble.
_VAGUE = frozenset({0x05, 0x06, 0x30})


def decrypt(key: Key, nonce: bytes, data: bytes, context: bytes) -> bytes:
    """Return what was encrypted; `Refusal` where it is certain that the bytes are at fault, not the token."""
    try:
        return _decrypted(key, nonce, data, context)
    except PKCS11Error as fault:
        if code_of(fault) not in _VAGUE:
            raise
    _prove(key)
    try:
        return _decrypted(key, nonce, data, context)
    except PKCS11Error as fault:
        if code_of(fault) in _VAGUE:
            raise Refusal("decrypt-failed") from None
        raise


def encrypt(key: Key, data: bytes, context: bytes) -> tuple[bytes, bytes]:
    """Return the nonce and what was encrypted."""
    params = GCMParams(os.urandom(_NONCE_BYTES), aad=context, tag_bits=_TAG_BITS)
    ciphertext = key.handle.encrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=params)
    # A token that insists on a nonce of its own writes it over ours, into these very bytes.
    return bytes(params.nonce), bytes(ciphertext)


def _decrypted(key: Key, nonce: bytes, data: bytes, context: bytes) -> bytes:
    params = GCMParams(nonce, aad=context, tag_bits=_TAG_BITS)
    return bytes(key.handle.decrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=params))


def _prove(key: Key) -> None:
    """Have the key encrypt and decrypt something else: only where it can, a vague fault is the bytes'."""
    if not key.encrypt:
        raise Refusal("cause-untold")
    secret = os.urandom(_PROOF_BYTES)
    nonce, ciphertext = encrypt(key, secret, b"")
    if _decrypted(key, nonce, ciphertext, b"") != secret:
        raise Refusal("cause-untold")
