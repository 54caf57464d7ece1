"""Looking for secrets in whatever was written or sent, in every spelling."""

import base64
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twinlock.keys import aead
from twinlock.keys.secret import SecretKey
from twinlock.vaults.software import material

_PREFIX = 12  # bytes of a spelling that are looked up; enough that chance finds nothing
_PAGE = 4096
_OVERLAP = 1024


def spellings(secret: bytes) -> set[bytes]:
    """Return the ways in which bytes may have been written down, whatever stands before and behind them."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()}
    for before in range(3):
        # The first and the last digits depend on the neighbours.
        encoded = base64.b64encode(bytes(before) + secret)[(0, 2, 3)[before] :]
        digits = encoded[: 8 * len(secret) // 6 - 2]
        found |= {digits, digits.translate(bytes.maketrans(b"+/", b"-_"))}
    with suppress(UnicodeDecodeError):
        found |= {secret.decode().encode("utf-16-le"), secret.decode().encode("utf-16-be")}
    return found


class Search:
    """Look for secrets in bytes, in a time that does not grow with the number of secrets."""

    def __init__(self, secrets: dict[str, bytes]) -> None:
        self._known: dict[bytes, list[tuple[str, bytes]]] = {}
        for name, secret in secrets.items():
            for spelling in spellings(secret):
                self._known.setdefault(spelling[:_PREFIX], []).append((name, spelling))

    def __call__(self, data: bytes) -> set[str]:
        """Name the secrets that are in the bytes."""
        known = self._known
        places = [at for at in range(len(data) - _PREFIX + 1) if data[at : at + _PREFIX] in known]
        found = ((name, spelling, at) for at in places for name, spelling in known[data[at : at + _PREFIX]])
        return {name for name, spelling, at in found if data.startswith(spelling, at)}


def pages(data: bytes) -> set[bytes]:
    """Cut bytes into overlapping pages: what is there many times, or empty, is looked through once."""
    return {data[at : at + _PAGE + _OVERLAP] for at in range(0, len(data), _PAGE)}


def numbers_of(private: rsa.RSAPrivateKey) -> dict[str, bytes]:
    """Return the secret numbers of a root key, in bytes and in digits."""
    found, secret = dict[str, bytes](), private.private_numbers()
    for name, number in (("p", secret.p), ("q", secret.q), ("d", secret.d)):
        found[f"root {name} {number}"] = number.to_bytes(-(-number.bit_length() // 8), "big")
        found[f"root {name} {number} in digits"] = str(number).encode()
    return found


def record_keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Return a dictionary that takes up every key which is made, derived or read in this process from now on."""
    keys: dict[str, bytes] = {}
    make_key, make_root = SecretKey.__init__, material.RsaMaterial.__init__

    def remember(raw: Any) -> None:
        if any(raw):
            keys[f"key {bytes(raw).hex()}"] = bytes(raw)

    def key(made: SecretKey, raw: Any) -> None:
        remember(raw)
        make_key(made, raw)

    def root(made: material.RsaMaterial, private: rsa.RSAPrivateKey) -> None:
        keys.update(numbers_of(private))
        make_root(made, private)

    def cipher(raw: Any) -> AESGCM:
        remember(raw)
        return AESGCM(raw)

    monkeypatch.setattr(SecretKey, "__init__", key)
    monkeypatch.setattr(material.RsaMaterial, "__init__", root)
    monkeypatch.setattr(aead, "AESGCM", cipher)
    monkeypatch.setattr(material, "AESGCM", cipher)
    return keys
