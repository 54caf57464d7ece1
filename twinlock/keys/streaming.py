"""Tink's AES256-GCM-HKDF streaming with 64 KiB segments, byte for byte.

    header || segment 0 || segment 1 || ...          header = 0x28 || salt (32) || nonce prefix (7)

Every stream has its own AES key: HKDF-SHA256 of the key material with the header's salt, and the context in info. A
segment's nonce is prefix || index (4, big-endian) || 0x01 for the last segment, else 0x00, so that a segment moved,
dropped or cut off fails. Header and segment 0 together fill one segment's size.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from twinlock.keys import kdf
from twinlock.keys.aead import TAG_BYTES, Aead
from twinlock.keys.errors import DecryptionError
from twinlock.keys.guarded import Buffer, Guarded
from twinlock.keys.secret import KEY_BYTES, SecretKey

SEGMENT_BYTES = 65536
SALT_BYTES = 32
PREFIX_BYTES = 7
HEADER_BYTES = 1 + SALT_BYTES + PREFIX_BYTES
SEGMENT_PLAINTEXT_BYTES = SEGMENT_BYTES - TAG_BYTES


def ciphertext_length(plaintext_length: int) -> int:
    """Return how long the stream for this many bytes is; the empty one still has one segment."""
    if plaintext_length < 0:
        raise ValueError("a length is never negative")
    segments = -(-(HEADER_BYTES + plaintext_length) // SEGMENT_PLAINTEXT_BYTES)
    return HEADER_BYTES + plaintext_length + segments * TAG_BYTES


def plaintext_length(ciphertext_length: int) -> int:
    """Return how many bytes a whole stream of this length holds; DecryptionError if no stream has it."""
    segments = -(-ciphertext_length // SEGMENT_BYTES)
    tail = ciphertext_length - (segments - 1) * SEGMENT_BYTES
    shortest = HEADER_BYTES + TAG_BYTES if segments == 1 else TAG_BYTES + 1  # only the empty stream ends in nothing
    if segments < 1 or tail < shortest:
        raise DecryptionError
    return ciphertext_length - HEADER_BYTES - segments * TAG_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """Say where the segments of the stream for `size` bytes lie, so that a range is read without the rest."""

    size: int

    @property
    def length(self) -> int:
        """Return how long the whole stream is."""
        return ciphertext_length(self.size)

    @property
    def segments(self) -> int:
        """Return how many segments there are, at least one."""
        return -(-self.length // SEGMENT_BYTES)

    def segment_of(self, offset: int) -> int:
        """Return which segment holds a byte of the plaintext."""
        return (HEADER_BYTES + offset) // SEGMENT_PLAINTEXT_BYTES

    def begin(self, index: int) -> int:
        """Return where a segment begins in the stream; where the last one ends, for the index behind it."""
        return min(index * SEGMENT_BYTES, self.length) if index else HEADER_BYTES

    def plain_begin(self, index: int) -> int:
        """Return which byte of the plaintext a segment begins with."""
        return index * SEGMENT_PLAINTEXT_BYTES - HEADER_BYTES if index else 0


class _Segments(Guarded):
    __slots__ = ("_aead", "_prefix")

    def __init__(self, key_material: SecretKey, context_bytes: bytes, header: Buffer) -> None:
        if len(header) != HEADER_BYTES or header[0] != HEADER_BYTES:
            raise DecryptionError
        key = bytearray(KEY_BYTES)
        kdf.hkdf_into(key_material, bytes(header[1 : 1 + SALT_BYTES]), context_bytes, key)
        self._aead = Aead(key)
        self._prefix = bytes(header[1 + SALT_BYTES :])
        key[:] = bytes(KEY_BYTES)

    def _nonces(self, first: int, count: int, *, last: bool) -> Iterator[bytes]:
        # More than four bytes of index is an OverflowError: 256 TiB, the format's own limit.
        behind = first + count - 1
        for index in range(first, behind):
            yield self._prefix + index.to_bytes(4, "big") + b"\x00"
        yield self._prefix + behind.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


class SegmentSealer(_Segments):
    """Seal the segments of one new stream; the caller uses every index once."""

    __slots__ = ()

    def seal_into(self, first: int, segments: Sequence[Buffer], buffer: memoryview, *, last: bool) -> None:
        """Fill a buffer with the ciphertext of segments from `first` on; `last` says it of the last of them."""
        seal_into, at = self._aead.seal_into, 0
        for nonce, segment in zip(self._nonces(first, len(segments), last=last), segments, strict=True):
            end = at + len(segment) + TAG_BYTES
            seal_into(nonce, segment, b"", buffer[at:end])
            at = end


def opened_length(first: int, segments: Sequence[Buffer]) -> int:
    """Return how long the plaintext of segments from `first` on is, or raise DecryptionError."""
    if any(len(segment) < TAG_BYTES + bool(index) for index, segment in enumerate(segments, first)):
        raise DecryptionError  # an empty one after others: a second encoding, which no writer makes
    return sum(map(len, segments)) - len(segments) * TAG_BYTES


class SegmentOpener(_Segments):
    """Open any segments of the stream with this header; DecryptionError for a header that can't be one."""

    __slots__ = ()

    def open(self, first: int, segments: Sequence[Buffer], *, last: bool) -> bytearray:
        """Return the plaintext of segments from `first` on, as `open_into` does."""
        plaintext = bytearray(opened_length(first, segments))
        self.open_into(first, segments, memoryview(plaintext), last=last)
        return plaintext

    def open_into(self, first: int, segments: Sequence[Buffer], buffer: memoryview, *, last: bool) -> None:
        """Fill a buffer with the plaintext of segments from `first` on, or raise DecryptionError.

        `last` says what the caller knows from the stream's length of the last of them; a wrong claim fails.
        """
        open_into, at = self._aead.open_into, 0
        for nonce, segment in zip(self._nonces(first, len(segments), last=last), segments, strict=True):
            end = at + len(segment) - TAG_BYTES
            open_into(nonce, segment, b"", buffer[at:end])
            at = end


class _Cutter:
    """Cut chunks of any size into parts of given sizes (the last size repeats), keeping back what may be the end."""

    def __init__(self, *sizes: int) -> None:
        self._sizes = chain(sizes, repeat(sizes[-1]))
        self._room = next(self._sizes)
        self._held = bytearray()

    def feed(self, chunk: Buffer) -> Iterator[Buffer]:
        view = memoryview(chunk)
        while len(self._held) + len(view) > self._room:
            take = self._room - len(self._held)
            part: Buffer = view[:take]
            if self._held:
                self._held += part
                part, self._held = self._held, bytearray()
            view, self._room = view[take:], next(self._sizes)
            yield part
        self._held += view

    def rest(self) -> Buffer:
        return self._held


class _Lender:
    """Lend memory, the same again once nobody holds a view of it.

    New memory would be zeroed and mapped for every chunk, which takes a sixth of the time of encrypting it; joining
    segments takes half of it.
    """

    __slots__ = ("_memories",)

    def __init__(self) -> None:
        self._memories: list[bytearray] = []

    def lend(self, size: int) -> memoryview:
        if size <= SEGMENT_BYTES:
            return memoryview(bytearray(size))
        for memory in self._memories:
            if len(memory) >= size and _unused(memory):
                return memoryview(memory)[:size]
        self._memories = [memory for memory in self._memories if len(memory) >= size]
        self._memories.append(memory := bytearray(size))
        return memoryview(memory)


def _unused(memory: bytearray) -> bool:
    try:
        memory.append(memory.pop())  # refused while there is a view: the size of what is looked at can't change
    except BufferError:
        return False
    return True


class StreamEncrypter(Guarded):
    """Encrypt one stream piece by piece; memory holds one segment besides the caller's chunk and what is returned.

    `update` may return nothing, and the stream is whole only with what `finish` returns. It does no I/O: an async
    caller drives it from a thread, one thread at a time. What is returned stays as it is for as long as it is held.
    """

    __slots__ = ("_cutter", "_header", "_index", "_lender", "_sealer")

    def __init__(self, key_material: SecretKey, context_bytes: bytes) -> None:
        self._header = bytes([HEADER_BYTES]) + os.urandom(SALT_BYTES + PREFIX_BYTES)
        self._sealer: SegmentSealer | None = SegmentSealer(key_material, context_bytes, self._header)
        self._cutter = _Cutter(SEGMENT_PLAINTEXT_BYTES - HEADER_BYTES, SEGMENT_PLAINTEXT_BYTES)
        self._lender = _Lender()
        self._index = 0

    def update(self, chunk: Buffer) -> memoryview:
        """Take plaintext, return the ciphertext that is certain by now."""
        return self._sealed(list(self._cutter.feed(chunk)), last=False)

    def finish(self) -> memoryview:
        """Return the last segment; nothing may follow."""
        return self._sealed([self._cutter.rest()], last=True)

    def _sealed(self, segments: Sequence[Buffer], *, last: bool) -> memoryview:
        if self._sealer is None:
            raise ValueError("this stream is finished")
        if not segments:
            return memoryview(b"")
        sealer, self._sealer = self._sealer, None  # put back only when it worked: no nonce is ever used again
        sealed = self._lender.lend(len(self._header) + sum(map(len, segments)) + len(segments) * TAG_BYTES)
        sealed[: len(self._header)] = self._header
        sealer.seal_into(self._index, segments, sealed[len(self._header) :], last=last)
        self._header = b""
        self._index += len(segments)
        if not last:
            self._sealer = sealer
        return sealed


class StreamDecrypter(Guarded):
    """Decrypt one stream piece by piece, handing out authenticated plaintext only.

    What `update` returned is genuine but may be a part: the stream is whole only once `finish` has returned. After a
    DecryptionError nothing more comes out, and `finish` raises it again. What is returned stays as it is for as long
    as it is held.
    """

    __slots__ = ("_context", "_cutter", "_index", "_key", "_lender", "_opener")

    def __init__(self, key_material: SecretKey, context_bytes: bytes) -> None:
        self._key: SecretKey | None = key_material
        self._context = context_bytes
        self._cutter = _Cutter(HEADER_BYTES, SEGMENT_BYTES - HEADER_BYTES, SEGMENT_BYTES)
        self._lender = _Lender()
        self._opener: SegmentOpener | None = None
        self._index = 0

    def update(self, chunk: Buffer) -> memoryview:
        """Take ciphertext cut anywhere, return the plaintext of every segment that is certain by now."""
        parts = list(self._cutter.feed(chunk))
        if parts and self._key is not None:
            key, self._key = self._key, None
            self._opener = SegmentOpener(key, self._context, parts.pop(0))
        return self._open(parts, last=False) if parts else memoryview(b"")

    def finish(self) -> memoryview:
        """Return the last segment's plaintext, or raise DecryptionError if the stream was cut off or extended."""
        return self._open([self._cutter.rest()], last=True)

    def _open(self, segments: Sequence[Buffer], *, last: bool) -> memoryview:
        opener, self._opener = self._opener, None  # put back only when it worked: one failure ends the stream
        if opener is None:
            raise DecryptionError
        plaintext = self._lender.lend(opened_length(self._index, segments))
        opener.open_into(self._index, segments, plaintext, last=last)
        self._index += len(segments)
        if not last:
            self._opener = opener
        return plaintext
