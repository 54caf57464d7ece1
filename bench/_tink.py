"""A large file through tink-py's streaming, with segments as large as ours, durable at the end."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import tink
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

CHUNK = 4 * 1024 * 1024
_TYPE = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
CONTEXT = b"context"


def with_tink(
    folder: Path,
) -> tuple[Callable[[Path], Awaitable[None]], Callable[[Path], Awaitable[None]]]:
    """Have tink-py encrypt the file beside itself, and decrypt it, with segments as large as ours."""
    stream_of, sealed = primitive(), folder / "sealed.tink"

    def encrypt(source: Path) -> None:
        with source.open("rb") as plain, stream_of.new_encrypting_stream(sealed.open("wb"), CONTEXT) as stream:
            while chunk := plain.read(CHUNK):
                stream.write(chunk)
        _sync(sealed)

    def decrypt(target: Path) -> None:
        with stream_of.new_decrypting_stream(sealed.open("rb"), CONTEXT) as stream, target.open("wb") as plain:
            while chunk := stream.read(CHUNK):
                plain.write(chunk)
        _sync(target)

    return lambda source: asyncio.to_thread(encrypt, source), lambda target: asyncio.to_thread(decrypt, target)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def primitive() -> streaming_aead.StreamingAead:
    """Return tink-py's streaming under a fresh key."""
    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=65536, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(params=params, key_value=os.urandom(32))
    data = tink_pb2.KeyData(type_url=_TYPE, value=key.SerializeToString(), key_material_type=tink_pb2.KeyData.SYMMETRIC)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)
