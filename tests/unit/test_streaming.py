"""Streams are encrypted in segments that can't be moved, dropped or cut off."""

import os
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams import decrypt_stream, encrypt_stream
from twinlock.keys.aead import TAG_BYTES
from twinlock.keys.errors import DecryptionError, KeyWipedError
from twinlock.keys.guarded import Buffer
from twinlock.keys.secret import SecretKey
from twinlock.keys.streaming import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    SegmentOpener,
    SegmentSealer,
    StreamDecrypter,
    StreamEncrypter,
    ciphertext_length,
    plaintext_length,
)

KEY = SecretKey(bytes(range(32)))
CONTEXT = b"what and where"
FIRST, FULL = SEGMENT_BYTES - 40 - 16, SEGMENT_BYTES - 16
EDGES = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + FULL - 1, FIRST + FULL, FIRST + FULL + 1, FIRST + 3 * FULL]
PLAIN = os.urandom(FIRST + 3 * FULL)


def sealed(length: int) -> list[bytes]:
    """Return the segments of a stream of this length."""
    stream = b"".join(encrypt_stream(KEY, CONTEXT, [PLAIN[:length]]))
    return [stream[begin : begin + SEGMENT_BYTES] for begin in range(0, len(stream), SEGMENT_BYTES)]


def opened(*chunks: Buffer) -> bytes:
    """Return the plaintext of a stream."""
    return b"".join(decrypt_stream(KEY, CONTEXT, chunks))


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield data in pieces of these sizes, and the rest."""
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@pytest.mark.parametrize("length", EDGES)
def test_edges(length: int) -> None:
    """Every length around a segment's edge comes back, in segments that fill their size and no empty one at the end."""
    segments = sealed(length)

    assert PLAIN[:length] == opened(*segments)
    assert {SEGMENT_BYTES} >= {len(segment) for segment in segments[:-1]}
    assert ciphertext_length(length) == sum(map(len, segments))
    assert length == plaintext_length(ciphertext_length(length))


sizes = st.lists(st.one_of(st.integers(0, 100), st.integers(60000, 70000), st.just(SEGMENT_BYTES)), max_size=8)


@given(st.sampled_from(EDGES), sizes, sizes)
@settings(deadline=None, max_examples=60)
def test_cut_anywhere(length: int, plain_cuts: list[int], cipher_cuts: list[int]) -> None:
    """However the chunks are cut on either side, the same bytes come out."""
    ciphertext = b"".join(encrypt_stream(KEY, CONTEXT, cut(PLAIN[:length], plain_cuts)))

    assert PLAIN[:length] == opened(*cut(ciphertext, cipher_cuts))


def test_byte_by_byte() -> None:
    """Chunks of one byte work, empty chunks too."""
    ciphertext = b"".join(sealed(100))

    assert PLAIN[:100] == opened(*(ciphertext[i : i + 1] for i in range(len(ciphertext))), b"")


def test_driven_by_hand() -> None:
    """The classes give what the functions give, from any kind of buffer."""
    encrypter, decrypter = StreamEncrypter(KEY, CONTEXT), StreamDecrypter(KEY, CONTEXT)
    ciphertext = b"".join((encrypter.update(bytearray(PLAIN)), encrypter.finish()))

    assert PLAIN == b"".join((decrypter.update(memoryview(ciphertext)), decrypter.finish()))


def test_reused_buffer() -> None:
    """A caller may fill the same buffer again for every chunk."""
    buffer = bytearray(1000)

    def refill() -> Iterator[bytearray]:
        for number in range(100):
            buffer[:] = bytes([number]) * 1000
            yield buffer

    ciphertext = b"".join(encrypt_stream(KEY, CONTEXT, refill()))

    assert b"".join(bytes([number]) * 1000 for number in range(100)) == opened(ciphertext)


def test_held_pieces() -> None:
    """What is still held keeps its bytes, also through a view of it alone."""
    chunk = bytes(2 * SEGMENT_BYTES)
    encrypter, decrypter = StreamEncrypter(KEY, CONTEXT), StreamDecrypter(KEY, CONTEXT)
    sealed = [encrypter.update(chunk)[:] for _ in range(50)] + [encrypter.finish()]
    plain = [decrypter.update(piece)[:] for piece in sealed] + [decrypter.finish()]

    assert 50 * chunk == b"".join(plain)


def test_memory_used_again() -> None:
    """The memory of what was let go is filled again."""
    encrypter = StreamEncrypter(KEY, CONTEXT)

    assert len({id(encrypter.update(bytes(2 * SEGMENT_BYTES)).obj) for _ in range(50)}) < 5


def test_fresh_streams() -> None:
    """Two streams of the same bytes share nothing but the length."""
    one, other = sealed(100)[0], sealed(100)[0]

    assert one[1:HEADER_BYTES] != other[1:HEADER_BYTES]
    assert one[HEADER_BYTES:] != other[HEADER_BYTES:]


def test_flat_memory() -> None:
    """Memory does not grow with the stream: 24 MiB pass through less than 1 MiB."""
    chunk = bytes(SEGMENT_BYTES)
    tracemalloc.start()
    total = sum(map(len, decrypt_stream(KEY, CONTEXT, encrypt_stream(KEY, CONTEXT, (chunk for _ in range(384))))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert 384 * SEGMENT_BYTES == total
    assert peak < 1024 * 1024


def damaged_streams() -> dict[str, list[bytes]]:
    """Return streams with every kind of damage, by its name."""
    a, b, c, d = sealed(len(PLAIN))
    return {
        "nothing": [],
        "part of the header": [a[: HEADER_BYTES - 1]],
        "header alone": [a[:HEADER_BYTES]],
        "last segment dropped": [a, b, c],
        "cut inside a segment": [a, b, c[:-1]],
        "tag alone is left": [a, b, c, d[:16]],
        "less than a tag is left": [a, b, c, d[:15]],
        "middle segment dropped": [a, c, d],
        "segments swapped": [a, c, b, d],
        "segment repeated": [a, b, b, c, d],
        "first segment dropped": [a[:HEADER_BYTES], b, c, d],
        "trailing byte": [a, b, c, d, b"\x00"],
        "trailing segment": [a, b, c, d, d],
        "two streams": [a, b, c, d, *sealed(10)],
        "segment of another stream": [a, sealed(len(PLAIN))[1], c, d],
        "header of another stream": [sealed(1)[0][:HEADER_BYTES], a[HEADER_BYTES:], b, c, d],
        "another header length": [b"\x29" + a[1:], b, c, d],
    }


@pytest.mark.parametrize("damage", sorted(damaged_streams()))
def test_damaged(damage: str) -> None:
    """A stream truncated, extended or reordered ends in the one error after genuine plaintext only (law 2)."""
    handed_out: list[Buffer] = []
    with pytest.raises(DecryptionError) as caught:
        handed_out.extend(decrypt_stream(KEY, CONTEXT, damaged_streams()[damage]))

    assert PLAIN.startswith(b"".join(handed_out))
    assert "does not decrypt: wrong key, wrong place, or damaged" == str(caught.value)


def test_wrong_place_or_key() -> None:
    """Another context or another key gives the same error, and not a byte before it (law 2)."""
    ciphertext = b"".join(sealed(len(PLAIN)))

    for key, context in ((KEY, b"elsewhere"), (SecretKey.generate(), CONTEXT)):
        with pytest.raises(DecryptionError):
            next(decrypt_stream(key, context, [ciphertext]))


def test_error_is_final() -> None:
    """After an error no more plaintext comes out, even from good segments, and the end is an error again."""
    a, b, c, d = sealed(len(PLAIN))
    decrypter = StreamDecrypter(KEY, CONTEXT)
    decrypter.update(a)
    with pytest.raises(DecryptionError):
        decrypter.update(c + d)

    for more in (b, c, d):
        with pytest.raises(DecryptionError):
            decrypter.update(more + bytes(SEGMENT_BYTES))
    with pytest.raises(DecryptionError):
        decrypter.finish()


def test_finished() -> None:
    """A finished stream takes no more bytes."""
    encrypter = StreamEncrypter(KEY, CONTEXT)
    encrypter.finish()

    for chunk in (b"", PLAIN):
        with pytest.raises(ValueError, match="finished"):
            encrypter.update(chunk)
    with pytest.raises(ValueError, match="finished"):
        encrypter.finish()


def test_wiped_key() -> None:
    """A wiped key starts no stream; one wiped after the start does no harm."""
    key = SecretKey(bytes(range(32)))
    stream = encrypt_stream(key, CONTEXT, [PLAIN])
    key.wipe()

    assert PLAIN == opened(*stream)
    with pytest.raises(KeyWipedError):
        encrypt_stream(key, CONTEXT, [PLAIN])
    with pytest.raises(KeyWipedError):
        list(decrypt_stream(key, CONTEXT, sealed(1)))


def test_single_segment() -> None:
    """Any segment opens by itself, given its index and whether it is the last."""
    a, _, c, d = sealed(len(PLAIN))
    opener = SegmentOpener(KEY, CONTEXT, a[:HEADER_BYTES])

    assert PLAIN[FIRST + FULL : FIRST + 2 * FULL] == opener.open(2, [c], last=False)
    assert PLAIN[:FIRST] == opener.open(0, [a[HEADER_BYTES:]], last=False)
    assert PLAIN[-FULL:] == opener.open(3, [d], last=True)


@pytest.mark.parametrize(("index", "last"), [(0, False), (2, False), (1, True), (2**32 - 1, False)])
def test_single_segment_elsewhere(index: int, last: bool) -> None:
    """A segment opened at another index, or as the last when it is not, fails (law 2)."""
    a, b, *_ = sealed(len(PLAIN))
    opener = SegmentOpener(KEY, CONTEXT, a[:HEADER_BYTES])

    with pytest.raises(DecryptionError):
        opener.open(index, [b], last=last)


def test_one_encoding() -> None:
    """An empty segment after others is refused although its tag is good: a plaintext has one length of stream."""
    header = bytes([HEADER_BYTES]) + bytes(39)
    sealer = SegmentSealer(KEY, CONTEXT, header)

    def seal(index: int, plain: bytes, *, last: bool) -> bytearray:
        segment = bytearray(len(plain) + TAG_BYTES)
        sealer.seal_into(index, [plain], memoryview(segment), last=last)
        return segment

    whole = header + seal(0, PLAIN[:FIRST], last=False)

    assert PLAIN[: FIRST + 1] == opened(whole, seal(1, PLAIN[FIRST : FIRST + 1], last=True))
    with pytest.raises(DecryptionError):
        opened(whole, seal(1, b"", last=True))


@pytest.mark.parametrize("header", [b"", bytes(40), b"\x28" + bytes(38), b"\x28" + bytes(40), b"\x18" + bytes(23)])
def test_bad_header(header: bytes) -> None:
    """What can't be a header is the same error (law 2)."""
    with pytest.raises(DecryptionError):
        SegmentOpener(KEY, CONTEXT, header)


@given(st.integers(0, 2**48))
@settings(deadline=None)
def test_lengths(length: int) -> None:
    """Lengths convert both ways for streams far larger than memory."""

    assert length == plaintext_length(ciphertext_length(length))


@given(st.integers(-100, 5 * SEGMENT_BYTES))
@settings(deadline=None)
def test_possible_lengths(length: int) -> None:
    """A ciphertext length is accepted exactly if some plaintext has it."""
    try:
        found: Any = plaintext_length(length)
    except DecryptionError:
        found = None
    possible = range(max(0, length - 200), max(0, length))

    assert [n for n in possible if ciphertext_length(n) == length] == ([] if found is None else [found])


def test_negative_length() -> None:
    """A negative length is a fault of the caller."""
    with pytest.raises(ValueError, match="negative"):
        ciphertext_length(-1)
