"""Whatever happens to stored bytes, one error comes out and it says nothing (law 2)."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams import decrypt_stream, encrypt_stream
from twinlock.keys.context import ContainerKeyContext, ItemContext, PolicyKeyContext
from twinlock.keys.errors import DecryptionError
from twinlock.keys.items import ItemCipher
from twinlock.keys.root_payload import open_payload, seal
from twinlock.keys.secret import SecretKey
from twinlock.keys.wrap import unwrap_key, wrap_key

KEY, OTHER = SecretKey(bytes(range(32))), SecretKey(bytes(range(32, 64)))
CIPHER = ItemCipher(KEY)
ROOT = PolicyKeyContext("contoso", "payroll", 1, "a")
CONTAINER = ContainerKeyContext("contoso", "payroll", 1, "kim", 1)
ITEM = ItemContext("contoso", "kim", 1, "item", 1)


@dataclass(frozen=True)
class Format:
    """Bytes of one format, twice over from the same plaintext, and what opens them."""

    one: bytes
    other: bytes
    opens: Callable[[bytes], object]


def stream() -> bytes:
    """Return a stream of three segments."""
    return b"".join(encrypt_stream(KEY, ITEM.encode(), [bytes(150_000)]))


FORMATS = {
    "root payload": Format(
        seal(KEY, ROOT), seal(OTHER, ROOT), lambda stored: open_payload(stored, ROOT, KEY.commitment())
    ),
    "wrapped key": Format(
        wrap_key(KEY, OTHER, CONTAINER),
        wrap_key(KEY, OTHER, CONTAINER),
        lambda stored: unwrap_key(KEY, stored, CONTAINER),
    ),
    "item": Format(
        CIPHER.encrypt(b"hello" * 20, ITEM),
        CIPHER.encrypt(b"hello" * 20, ITEM),
        lambda stored: CIPHER.decrypt(stored, ITEM),
    ),
    "stream": Format(stream(), stream(), lambda stored: list(decrypt_stream(KEY, ITEM.encode(), [stored]))),
}
formats = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS.keys())


def refused(form: Format, stored: bytes) -> bool:
    """Tell whether bytes are refused with exactly the one error; any other error escapes."""
    try:
        form.opens(stored)
    except DecryptionError as error:
        return type(error) is DecryptionError and error.args == ()
    return False


@formats
def test_untouched(form: Format) -> None:
    """The bytes as stored do open, or the tests below would prove nothing."""

    assert not refused(form, form.one)


@formats
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_bit_flipped(form: Format, data: st.DataObject) -> None:
    """Any single flipped bit is refused (law 2)."""
    bit = data.draw(st.integers(0, len(form.one) * 8 - 1))
    stored = bytearray(form.one)
    stored[bit // 8] ^= 1 << bit % 8

    assert refused(form, bytes(stored))


@formats
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_truncated(form: Format, data: st.DataObject) -> None:
    """Any proper prefix or suffix is refused (law 2)."""
    length = data.draw(st.integers(0, len(form.one) - 1))

    assert refused(form, form.one[:length])
    assert refused(form, form.one[len(form.one) - length :])


@formats
@given(extra=st.binary(min_size=1, max_size=100))
@settings(deadline=None, max_examples=40)
def test_extended(form: Format, extra: bytes) -> None:
    """Anything added before or behind is refused (law 2)."""

    assert refused(form, form.one + extra)
    assert refused(form, extra + form.one)


@formats
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_spliced(form: Format, data: st.DataObject) -> None:
    """A range swapped in from other bytes of the same place is refused, unless it is the whole or equal (law 2)."""
    start = data.draw(st.integers(0, len(form.one) - 1))
    end = data.draw(st.integers(start + 1, len(form.one)))
    stored = form.one[:start] + form.other[start:end] + form.one[end:]

    assert stored in (form.one, form.other) or refused(form, stored)


def test_every_bit_of_a_wrapped_key() -> None:
    """Not one of the 744 bits of a wrapped key can be flipped (law 2)."""
    form = FORMATS["wrapped key"]
    number, size = int.from_bytes(form.one, "big"), len(form.one)

    assert all(refused(form, (number ^ 1 << bit).to_bytes(size, "big")) for bit in range(size * 8))


@formats
@given(stored=st.binary(max_size=200))
@settings(deadline=None, max_examples=100)
def test_rubbish(form: Format, stored: bytes) -> None:
    """Arbitrary bytes are refused (law 2)."""

    assert refused(form, stored)


@pytest.mark.parametrize(("stored", "reader"), [(a, b) for a in FORMATS for b in FORMATS if a != b])
def test_confused(stored: str, reader: str) -> None:
    """Bytes of one format are refused by the reader of every other (law 2)."""

    assert refused(FORMATS[reader], FORMATS[stored].one)
