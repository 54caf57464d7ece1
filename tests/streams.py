"""Whole streams through the classes that encrypt and decrypt them piece by piece."""

from collections.abc import Iterable, Iterator

from twinlock.keys.guarded import Buffer
from twinlock.keys.secret import SecretKey
from twinlock.keys.streaming import StreamDecrypter, StreamEncrypter


def encrypt_stream(key_material: SecretKey, context_bytes: bytes, chunks: Iterable[Buffer]) -> Iterator[Buffer]:
    """Return the encrypted stream, the header with the first piece; the key may be wiped on return."""
    return _drive(StreamEncrypter(key_material, context_bytes), chunks)


def decrypt_stream(key_material: SecretKey, context_bytes: bytes, chunks: Iterable[Buffer]) -> Iterator[Buffer]:
    """Return authenticated plaintext from ciphertext cut anywhere; a damaged or incomplete stream ends in an error."""
    return _drive(StreamDecrypter(key_material, context_bytes), chunks)


def _drive(stream: StreamEncrypter | StreamDecrypter, chunks: Iterable[Buffer]) -> Iterator[Buffer]:
    for chunk in chunks:
        yield stream.update(chunk)
    yield stream.finish()
