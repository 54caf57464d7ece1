"""The wire formats of docs/formats.md, built by hand from bytes and primitives, without the encoders under test."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.streams import encrypt_stream
from twinlock.keys.blobs import BlobKey, BlobOpener, SiteCipher
from twinlock.keys.context import BlobContext, ContainerKeyContext, ItemContext, PolicyKeyContext
from twinlock.keys.items import ItemCipher
from twinlock.keys.root_payload import open_payload, seal
from twinlock.keys.secret import SecretKey
from twinlock.keys.streaming import Layout, StreamDecrypter
from twinlock.keys.wrap import WRAPPED_KEY_BYTES, unwrap_key, wrap_key

WRAPPING, KEY, NONCE = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 76))

POLICY_PLACE = PolicyKeyContext("contoso", "payroll", 258, "availability")
POLICY_BYTES = (
    b"\x00\x13twinlock.context.v1\x00\x0apolicy-key"
    b"\x00\x06tenant\x00\x08scontoso"
    b"\x00\x06policy\x00\x08spayroll"
    b"\x00\x0ageneration\x00\x09i\x00\x00\x00\x00\x00\x00\x01\x02"
    b"\x00\x04slot\x00\x0dsavailability"
)
CONTAINER_PLACE = ContainerKeyContext("contoso", "payroll", 2, "kim", 3)
CONTAINER_BYTES = (
    b"\x00\x13twinlock.context.v1\x00\x0dcontainer-key"
    b"\x00\x06tenant\x00\x08scontoso"
    b"\x00\x06policy\x00\x08spayroll"
    b"\x00\x15policy_key_generation\x00\x09i\x00\x00\x00\x00\x00\x00\x00\x02"
    b"\x00\x09container\x00\x04skim"
    b"\x00\x0ageneration\x00\x09i\x00\x00\x00\x00\x00\x00\x00\x03"
)
ITEM_PLACE = ItemContext("contoso", "kim", 3, "é", 1)
ITEM_BYTES = (
    b"\x00\x13twinlock.context.v1\x00\x04item"
    b"\x00\x06tenant\x00\x08scontoso"
    b"\x00\x09container\x00\x04skim"
    b"\x00\x0ageneration\x00\x09i\x00\x00\x00\x00\x00\x00\x00\x03"
    b"\x00\x04item\x00\x03s\xc3\xa9"
    b"\x00\x07version\x00\x09i\x00\x00\x00\x00\x00\x00\x00\x01"
)


BLOB_PLACE = BlobContext("contoso", "hq", 3, "f", 2)
BLOB_FIELDS = (
    b"\x00\x06tenant\x00\x08scontoso"
    b"\x00\x09container\x00\x03shq"
    b"\x00\x0ageneration\x00\x09i\x00\x00\x00\x00\x00\x00\x00\x03"
    b"\x00\x04file\x00\x02sf"
    b"\x00\x07version\x00\x09i\x00\x00\x00\x00\x00\x00\x00\x02"
)
BLOB_BYTES = b"\x00\x13twinlock.context.v1\x00\x04blob" + BLOB_FIELDS
BLOB_KEY_BYTES = b"\x00\x13twinlock.context.v1\x00\x08blob-key" + BLOB_FIELDS


def hkdf(key: bytes, info: bytes, length: int = 32, salt: bytes = b"") -> bytes:
    """Call the primitive."""
    return HKDF(SHA256(), length, salt, info).derive(key)


def test_context_bytes() -> None:
    """The contexts encode to exactly these bytes."""

    assert POLICY_BYTES == POLICY_PLACE.encode()
    assert CONTAINER_BYTES == CONTAINER_PLACE.encode()
    assert ITEM_BYTES == ITEM_PLACE.encode()
    assert BLOB_BYTES == BLOB_PLACE.encode()
    assert BLOB_KEY_BYTES == BLOB_PLACE.of_key.encode()


def test_commitment_bytes() -> None:
    """A commitment is HKDF-SHA256 of the key with the label and a zero byte as info."""

    assert hkdf(KEY, b"twinlock.commitment.v1\x00") == SecretKey(KEY).commitment()


def test_root_payload_bytes() -> None:
    """A root payload is the key and SHA-256 of the context (law 1)."""
    payload = KEY + hashlib.sha256(POLICY_BYTES).digest()
    commitment = hkdf(KEY, b"twinlock.commitment.v1\x00")

    assert payload == seal(SecretKey(KEY), POLICY_PLACE)
    assert SecretKey(KEY) == open_payload(payload, POLICY_PLACE, commitment)


def test_wrapped_key_opens() -> None:
    """A wrapped key made by hand opens."""
    expanded = hkdf(WRAPPING, b"twinlock.wrap.v1\x00" + CONTAINER_BYTES, 64)
    wrapped = b"\x01" + NONCE + AESGCM(expanded[:32]).encrypt(NONCE, KEY, CONTAINER_BYTES) + expanded[32:]

    assert 1 + 12 + 32 + 16 + 32 == len(wrapped) == WRAPPED_KEY_BYTES
    assert SecretKey(KEY) == unwrap_key(SecretKey(WRAPPING), wrapped, CONTAINER_PLACE)


def test_wrapped_key_is_readable() -> None:
    """A wrapped key is taken apart by hand."""
    wrapped = wrap_key(SecretKey(WRAPPING), SecretKey(KEY), CONTAINER_PLACE)
    expanded = hkdf(WRAPPING, b"twinlock.wrap.v1\x00" + CONTAINER_BYTES, 64)

    assert (b"\x01", expanded[32:]) == (wrapped[:1], wrapped[61:])
    assert KEY == AESGCM(expanded[:32]).decrypt(wrapped[1:13], wrapped[13:61], CONTAINER_BYTES)


def test_item_bytes() -> None:
    """An item made by hand opens, and one of ours is taken apart by hand."""
    cipher, gcm = ItemCipher(SecretKey(KEY)), AESGCM(hkdf(KEY, b"twinlock.item.v1\x00"))
    sealed = cipher.encrypt(b"hello", ITEM_PLACE)

    assert b"hello" == cipher.decrypt(NONCE + gcm.encrypt(NONCE, b"hello", ITEM_BYTES), ITEM_PLACE)
    assert b"hello" == gcm.decrypt(sealed[:12], sealed[12:], ITEM_BYTES)


def test_import_mac_bytes() -> None:
    """The import MAC is HMAC-SHA256 under the import key."""
    expected = hmac.digest(hkdf(KEY, b"twinlock.import.v1\x00"), b"hello", "sha256")

    assert expected == ItemCipher(SecretKey(KEY)).import_mac(b"hello")


def test_stream_key_bytes() -> None:
    """The stream key is derived from the container key under its own label."""

    assert SecretKey(hkdf(KEY, b"twinlock.item-stream.v1\x00")) == ItemCipher(SecretKey(KEY)).stream_key()


def stream_by_hand(plaintext: bytes, key: bytes = KEY, context: bytes = ITEM_BYTES) -> bytes:
    """Build a stream segment by segment."""
    salt, prefix, parts, index = bytes(range(32)), bytes(range(7)), [], 0
    gcm = AESGCM(hkdf(key, context, salt=salt))
    parts, rest, room = [b"\x28" + salt + prefix], plaintext, 65480
    while len(rest) > room:
        parts.append(gcm.encrypt(prefix + index.to_bytes(4, "big") + b"\x00", rest[:room], None))
        rest, room, index = rest[room:], 65520, index + 1
    parts.append(gcm.encrypt(prefix + index.to_bytes(4, "big") + b"\x01", rest, None))
    return b"".join(parts)


@pytest.mark.parametrize("length", [0, 1, 65480, 65481, 131_000, 131_001, 200_000])
def test_stream_opens(length: int) -> None:
    """A stream made by hand opens at every kind of length."""
    decrypter, plaintext = StreamDecrypter(SecretKey(KEY), ITEM_BYTES), bytes(length)

    assert plaintext == b"".join((decrypter.update(stream_by_hand(plaintext)), decrypter.finish()))


def test_stream_is_readable() -> None:
    """A stream of ours is taken apart by hand."""
    plaintext = bytes(range(256)) * 400
    stream = b"".join(encrypt_stream(SecretKey(KEY), ITEM_BYTES, [plaintext]))
    gcm, prefix = AESGCM(hkdf(KEY, ITEM_BYTES, salt=stream[1:33])), stream[33:40]
    first = gcm.decrypt(prefix + b"\x00\x00\x00\x00\x00", stream[40:65536], None)
    last = gcm.decrypt(prefix + b"\x00\x00\x00\x01\x01", stream[65536:], None)

    assert b"\x28" == stream[:1]
    assert plaintext == first + last


@pytest.mark.parametrize("length", [0, 1, 65480, 65481, 200_000])
def test_blob_bytes(length: int) -> None:
    """A wrapped blob key and a blob made by hand open; the blob key's own bytes encrypt nothing."""
    expanded = hkdf(WRAPPING, b"twinlock.wrap.v1\x00" + BLOB_KEY_BYTES, 64)
    wrapped = b"\x01" + NONCE + AESGCM(expanded[:32]).encrypt(NONCE, KEY, BLOB_KEY_BYTES) + expanded[32:]
    plaintext = bytes(range(251)) * (length // 251) + bytes(length % 251)
    blob = stream_by_hand(plaintext, hkdf(KEY, b"twinlock.blob.v1\x00"), BLOB_BYTES)
    layout = Layout(length)
    key = SiteCipher(SecretKey(WRAPPING)).open(wrapped, BLOB_PLACE)
    last = blob[layout.begin(layout.segments - 1) :]

    assert plaintext == BlobOpener(key.opener(blob[:40]), layout, len(blob), last).open(0, blob[40:])


def poly1305(key: bytes, message: bytes) -> bytes:
    """Return the tag by the arithmetic of RFC 8439, section 2.5."""
    clamped = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(message), 16):
        total = (total + int.from_bytes(message[start : start + 16] + b"\x01", "little")) * clamped % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def test_content_mac_bytes() -> None:
    """The content MAC is Poly1305 under a one-time key derived from the blob key."""
    mac = BlobKey(SecretKey(KEY), BLOB_PLACE).mac()
    mac.update(b"hello")

    assert poly1305(hkdf(KEY, b"twinlock.content-mac.v1\x00"), b"hello") == mac.finish()
