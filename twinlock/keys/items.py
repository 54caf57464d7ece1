"""Encrypt the content of items under a container key, and recognise what was imported before.

The container key itself is used by no cipher: item, item-stream and import keys are derived from it, so that no key
serves two algorithms and the limit on items counts AES-GCM calls alone.
"""

from enum import StrEnum
from typing import NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from twinlock.keys import kdf
from twinlock.keys.aead import Aead
from twinlock.keys.context import ItemContext
from twinlock.keys.errors import KeyWipedError
from twinlock.keys.guarded import Buffer, Guarded
from twinlock.keys.secret import KEY_BYTES, SecretKey

STREAM_ABOVE = 1024 * 1024
MAX_ITEMS_PER_GENERATION = 2**31  # two random 96-bit nonces collide with probability 2^-35: below NIST's 2^-32


class ItemFormat(StrEnum):
    """Name how an item's content is encrypted; stored in its row."""

    AEAD = "aead"
    STREAM = "stream"


def format_for(size: int) -> ItemFormat:
    """Return the format for a plaintext of this many bytes."""
    return ItemFormat.STREAM if size > STREAM_ABOVE else ItemFormat.AEAD


class ImportMac(Guarded):
    """Compute HMAC-SHA256 piece by piece; `digest` may be asked at any time and changes nothing."""

    __slots__ = ("_hmac",)

    def __init__(self, keyed: HMAC) -> None:
        self._hmac = keyed

    def update(self, chunk: Buffer) -> None:
        """Add bytes."""
        self._hmac.update(chunk)

    def digest(self) -> bytes:
        """Return the 32 bytes for all that was added so far."""
        return self._hmac.copy().finalize()


class _Keys(NamedTuple):
    aead: Aead
    mac: HMAC
    stream: SecretKey


class ItemCipher(Guarded):
    """Encrypt, decrypt and recognise the items of one container key generation.

    It keeps nothing of the container key, which the caller may wipe at once. Safe to use from several threads.
    """

    __slots__ = ("_keys",)

    def __init__(self, container: SecretKey) -> None:
        item = _subkey(container, kdf.Label.ITEM)
        mac = _subkey(container, kdf.Label.IMPORT)
        stream = _subkey(container, kdf.Label.ITEM_STREAM)
        self._keys: _Keys | None = _Keys(Aead(item.expose()), HMAC(mac.expose(), SHA256()), stream)
        item.wipe()
        mac.wipe()

    def encrypt(self, plaintext: Buffer, context: ItemContext) -> bytes:
        """Return nonce (12) || ciphertext || tag (16): Tink's RAW AES-256-GCM."""
        return self._live().aead.encrypt(plaintext, context.encode())

    def decrypt(self, ciphertext: Buffer, context: ItemContext) -> bytes:
        """Return the plaintext, or raise DecryptionError."""
        return self._live().aead.decrypt(ciphertext, context.encode())

    def stream_key(self) -> SecretKey:
        """Lend the key for `streaming`; it belongs to this cipher and is wiped with it."""
        return self._live().stream

    def mac(self) -> ImportMac:
        """Start the import MAC of one message."""
        return ImportMac(self._live().mac.copy())

    def import_mac(self, data: Buffer) -> bytes:
        """Return the import MAC of one whole message."""
        mac = self._live().mac.copy()
        mac.update(data)
        return mac.finalize()

    def wipe(self) -> None:
        """Drop every key; repeating it is no error, any other use afterwards is KeyWipedError.

        OpenSSL cleanses its copies with the last reference to them.
        """
        keys, self._keys = self._keys, None
        if keys is not None:
            keys.stream.wipe()

    def _live(self) -> _Keys:
        keys = self._keys
        if keys is None:
            raise KeyWipedError
        return keys


def _subkey(container: SecretKey, label: kdf.Label) -> SecretKey:
    buffer = bytearray(KEY_BYTES)
    kdf.derive_into(container, label, b"", buffer)
    return SecretKey.take(buffer)
