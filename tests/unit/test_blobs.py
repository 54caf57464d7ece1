"""Blob keys under a site key: whatever is moved, flipped, cut or reordered fails with the one error."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlock.keys.blobs import BlobKey, BlobOpener, SiteCipher
from twinlock.keys.context import BlobContext
from twinlock.keys.errors import DecryptionError, KeyWipedError
from twinlock.keys.guarded import Buffer
from twinlock.keys.secret import SecretKey
from twinlock.keys.streaming import HEADER_BYTES, SEGMENT_BYTES, Layout

SITE, OTHER = SecretKey(bytes(range(32))), SecretKey(bytes(range(1, 33)))
PLACE = BlobContext("contoso", "hq", 3, "file", 2)
BODY = bytes(range(256)) * 800  # four segments
ELSEWHERE = [{"tenant": "x"}, {"container": "x"}, {"generation": 4}, {"file": "x"}, {"version": 3}]


def sealed(body: bytes = BODY) -> tuple[bytes, bytes]:
    key, wrapped = SiteCipher(SITE).make(PLACE)
    encrypter = key.encrypter()
    return wrapped, b"".join((encrypter.update(body), encrypter.finish()))


WRAPPED, BLOB = sealed()


def opened(key: BlobKey, blob: Buffer, size: int = len(BODY)) -> bytes:
    layout = Layout(size)
    opener = BlobOpener(key.opener(blob[:HEADER_BYTES]), layout, len(blob), blob[layout.begin(layout.segments - 1) :])
    return opener.open(0, blob[HEADER_BYTES:])


def test_round_trip() -> None:
    """A blob opens with its wrapped key at its place; every blob has another key and another MAC."""
    key = SiteCipher(SITE).open(WRAPPED, PLACE)
    again, _ = sealed()
    first, second = key.mac(), SiteCipher(SITE).open(again, PLACE).mac()
    first.update(BODY)
    second.update(BODY)

    assert BODY == opened(key, BLOB)
    assert not first.matches(second.finish())


@pytest.mark.parametrize("change", ELSEWHERE)
def test_law_2_moved_key(change: dict[str, Any]) -> None:
    """Law 2: a wrapped blob key of another tenant, site, generation, file or version fails."""
    with pytest.raises(DecryptionError):
        SiteCipher(SITE).open(WRAPPED, replace(PLACE, **change))
    with pytest.raises(DecryptionError):
        SiteCipher(OTHER).open(WRAPPED, PLACE)


@pytest.mark.parametrize("change", ELSEWHERE)
def test_law_2_moved_blob(change: dict[str, Any]) -> None:
    """Law 2: the right key opens a blob at no other place."""
    key, _ = SiteCipher(SITE).make(PLACE)
    encrypter = key.encrypter()
    blob = b"".join((encrypter.update(BODY), encrypter.finish()))
    key._context = replace(PLACE, **change).encode()

    with pytest.raises(DecryptionError):
        opened(key, blob)


@given(st.data())
def test_law_2_spoiled_key(data: st.DataObject) -> None:
    """Law 2: a wrapped blob key with any bit flipped, or of any other length, fails."""
    spoiled = bytearray(WRAPPED)
    spoiled[data.draw(st.integers(0, len(WRAPPED) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = WRAPPED[: data.draw(st.integers(0, len(WRAPPED) - 1))]

    for wrong in (bytes(spoiled), cut, WRAPPED + b"\0"):
        with pytest.raises(DecryptionError):
            SiteCipher(SITE).open(wrong, PLACE)


@given(st.data())
def test_law_2_spoiled_blob(data: st.DataObject) -> None:
    """Law 2: a blob with any bit flipped, cut anywhere, extended or with segments swapped fails."""
    key = SiteCipher(SITE).open(WRAPPED, PLACE)
    flipped = bytearray(BLOB)
    flipped[data.draw(st.integers(0, len(BLOB) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    segments = [BLOB[at : at + SEGMENT_BYTES] for at in range(0, len(BLOB), SEGMENT_BYTES)]
    one, two = data.draw(st.lists(st.integers(0, 2), min_size=2, max_size=2, unique=True))
    segments[one], segments[two] = segments[two], segments[one]
    cut = BLOB[: data.draw(st.integers(0, len(BLOB) - 1))]

    for wrong in (bytes(flipped), b"".join(segments), cut, BLOB + data.draw(st.binary(min_size=1, max_size=99))):
        with pytest.raises(DecryptionError):
            opened(key, wrong)


@given(st.integers(0, 300_000), st.data())
def test_layout(size: int, data: st.DataObject) -> None:
    """Segments lie end to end, and every byte of the plaintext is in the segment that the layout names."""
    layout = Layout(size)
    ends = [layout.begin(index) for index in range(layout.segments + 1)]
    offset = data.draw(st.integers(0, max(0, size - 1)))
    index = layout.segment_of(offset) if size else 0

    assert sorted(set(ends)) == ends
    assert (HEADER_BYTES, layout.length) == (ends[0], ends[-1])
    assert layout.plain_begin(index) <= offset < layout.plain_begin(index + 1)


def test_wiped() -> None:
    """A wiped key is refused; what the site cipher remembered goes with it."""
    cipher = SiteCipher(SITE)
    key = cipher.open(WRAPPED, PLACE)
    layout = Layout(len(BODY))
    opener = BlobOpener(key.opener(BLOB[:HEADER_BYTES]), layout, len(BLOB), BLOB[layout.begin(layout.segments - 1) :])
    cipher.remember(WRAPPED, PLACE, opener)
    assert cipher.recall(WRAPPED, PLACE) is opener
    cipher.wipe()
    key.wipe()

    assert cipher.recall(WRAPPED, PLACE) is None
    with pytest.raises(KeyWipedError):
        cipher.open(WRAPPED, PLACE)
    with pytest.raises(KeyWipedError):
        key.mac()
