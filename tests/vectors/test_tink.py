"""Tink opens what we encrypt, and we open what Tink encrypts."""

import io
import os

import pytest
import tink
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tink import aead, secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, aes_gcm_pb2, common_pb2, tink_pb2

from tests.streams import decrypt_stream, encrypt_stream
from twinlock.keys.blobs import BlobKey, BlobOpener
from twinlock.keys.context import BlobContext, ItemContext
from twinlock.keys.errors import DecryptionError
from twinlock.keys.items import STREAM_ABOVE, ItemCipher
from twinlock.keys.secret import SecretKey
from twinlock.keys.streaming import HEADER_BYTES, Layout, ciphertext_length

KEY = bytes(range(32))
PLACE = ItemContext("contoso", "kim", 3, "item", 1)
ASSOCIATED = PLACE.encode()
FIRST, FULL = 65536 - 40 - 16, 65536 - 16
EDGES = [end + delta for end in (0, FIRST, FIRST + FULL, FIRST + 2 * FULL) for delta in (-1, 0, 1) if end + delta >= 0]


def subkey(label: str) -> bytes:
    """Derive from the fixed container key without our own code."""
    return HKDF(SHA256(), 32, b"", label.encode() + b"\x00").derive(KEY)


def handle(name: str, value: bytes) -> tink.KeysetHandle:
    """Make a Tink keyset of one RAW key from the key's own serialised message."""
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(
        key_data=tink_pb2.KeyData(
            type_url=f"type.googleapis.com/google.crypto.tink.{name}",
            value=value,
            key_material_type=tink_pb2.KeyData.SYMMETRIC,
        ),
        status=tink_pb2.ENABLED,
        key_id=1,
        output_prefix_type=tink_pb2.RAW,
    )
    return tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)


@pytest.fixture(scope="module")
def tink_item() -> aead.Aead:
    """Return Tink's AES-GCM under the item key."""
    aead.register()
    key = aes_gcm_pb2.AesGcmKey(version=0, key_value=subkey("twinlock.item.v1"))
    return handle("AesGcmKey", key.SerializeToString()).primitive(aead.Aead)


@pytest.fixture(scope="module")
def tink_stream() -> streaming_aead.StreamingAead:
    """Return Tink's streaming AEAD under the stream key."""
    return stream_primitive("twinlock.item-stream.v1")


def stream_primitive(label: str) -> streaming_aead.StreamingAead:
    """Return Tink's streaming AEAD under a sub-key."""
    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=65536, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=params, key_value=subkey(label))
    return handle("AesGcmHkdfStreamingKey", key.SerializeToString()).primitive(streaming_aead.StreamingAead)


@pytest.fixture
def cipher() -> ItemCipher:
    """Return our cipher of the fixed container key."""
    return ItemCipher(SecretKey(KEY))


class Sink(io.BytesIO):
    """A file that keeps its bytes when Tink closes it."""

    def close(self) -> None:
        """Stay open: what was written is read afterwards."""


def written_by_tink(primitive: streaming_aead.StreamingAead, plaintext: bytes, associated: bytes = ASSOCIATED) -> bytes:
    """Return a stream that Tink wrote."""
    sink = Sink()
    with primitive.new_encrypting_stream(sink, associated) as stream:
        stream.write(plaintext)
    return sink.getvalue()


@pytest.mark.parametrize("length", [0, 1, 25_000, STREAM_ABOVE])
def test_items(cipher: ItemCipher, tink_item: aead.Aead, length: int) -> None:
    """Tink opens our items with the item key and the context, and we open Tink's."""
    plaintext = os.urandom(length)

    assert plaintext == tink_item.decrypt(cipher.encrypt(plaintext, PLACE), ASSOCIATED)
    assert plaintext == cipher.decrypt(tink_item.encrypt(plaintext, ASSOCIATED), PLACE)


def test_items_elsewhere(cipher: ItemCipher, tink_item: aead.Aead) -> None:
    """Tink refuses our items in another place, as we refuse Tink's (law 2)."""
    with pytest.raises(tink.TinkError):
        tink_item.decrypt(cipher.encrypt(b"hello", PLACE), b"elsewhere")
    with pytest.raises(DecryptionError):
        cipher.decrypt(tink_item.encrypt(b"hello", b"elsewhere"), PLACE)


@pytest.mark.parametrize("length", [*EDGES, STREAM_ABOVE + 1])
def test_our_streams(cipher: ItemCipher, tink_stream: streaming_aead.StreamingAead, length: int) -> None:
    """Tink opens our streams at every length around a segment's edge."""
    plaintext = os.urandom(length)
    stream = b"".join(encrypt_stream(cipher.stream_key(), ASSOCIATED, [plaintext]))

    assert plaintext == tink_stream.new_decrypting_stream(io.BytesIO(stream), ASSOCIATED).read()


@pytest.mark.parametrize("length", [*EDGES, STREAM_ABOVE + 1])
def test_tinks_streams(cipher: ItemCipher, tink_stream: streaming_aead.StreamingAead, length: int) -> None:
    """We open Tink's streams at every length around a segment's edge, and both are equally long."""
    plaintext = os.urandom(length)
    stream = written_by_tink(tink_stream, plaintext)

    assert ciphertext_length(length) == len(stream)
    assert plaintext == b"".join(decrypt_stream(cipher.stream_key(), ASSOCIATED, [stream]))


@pytest.mark.parametrize("length", [0, 1, FIRST, FIRST + 1, FIRST + FULL + 1])
def test_truncated_streams(cipher: ItemCipher, tink_stream: streaming_aead.StreamingAead, length: int) -> None:
    """Tink refuses a stream of ours that lost its end, as we refuse Tink's (law 2)."""
    ours = b"".join(encrypt_stream(cipher.stream_key(), ASSOCIATED, [bytes(length)]))
    theirs = written_by_tink(tink_stream, bytes(length))

    with pytest.raises(tink.TinkError):
        tink_stream.new_decrypting_stream(io.BytesIO(ours[:-1]), ASSOCIATED).read()
    with pytest.raises(DecryptionError):
        list(decrypt_stream(cipher.stream_key(), ASSOCIATED, [theirs[:-1]]))


SITE_PLACE = BlobContext("contoso", "hq", 3, "file", 2)


@pytest.mark.parametrize("length", EDGES)
def test_blobs(length: int) -> None:
    """Tink opens our blobs with the blob's stream key and context, and we open Tink's, at every length at an edge."""
    theirs, associated = stream_primitive("twinlock.blob.v1"), SITE_PLACE.encode()
    key, plaintext = BlobKey(SecretKey(KEY), SITE_PLACE), os.urandom(length)
    encrypter = key.encrypter()
    ours = b"".join((encrypter.update(plaintext), encrypter.finish()))
    blob = written_by_tink(theirs, plaintext, associated)
    layout = Layout(length)
    last = blob[layout.begin(layout.segments - 1) :]
    opener = BlobOpener(key.opener(blob[:HEADER_BYTES]), layout, len(blob), last)

    assert plaintext == theirs.new_decrypting_stream(io.BytesIO(ours), associated).read()
    assert layout.length == len(ours) == len(blob)
    assert plaintext == opener.open(0, blob[HEADER_BYTES:])
    with pytest.raises(tink.TinkError):
        theirs.new_decrypting_stream(io.BytesIO(ours), ASSOCIATED).read()
