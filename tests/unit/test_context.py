"""A context encodes what is encrypted and where it belongs, unambiguously."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlock.keys.context import (
    MAX_INT,
    MAX_STRING_BYTES,
    ContainerKeyContext,
    Context,
    ItemContext,
    PolicyKeyContext,
)

# A small alphabet with the bytes that lengths and types are made of: collisions, if any, are near.
texts = st.text(alphabet="as\x00\x01\x02é", min_size=1, max_size=6)
numbers = st.one_of(st.integers(0, 3), st.integers(0, MAX_INT))
contexts: st.SearchStrategy[Context] = st.one_of(
    st.builds(PolicyKeyContext, texts, texts, numbers, st.sampled_from(["a", "b", "availability"])),
    st.builds(ContainerKeyContext, texts, texts, numbers, texts, numbers),
    st.builds(ItemContext, texts, texts, numbers, texts, numbers),
)
ITEM: dict[str, Any] = {"tenant": "t", "container": "c", "generation": 1, "item": "i", "version": 1}


@given(contexts, contexts)
@settings(deadline=None, max_examples=300)
def test_injective(one: Context, other: Context) -> None:
    """Two contexts encode alike only if they are the same (law 2)."""

    assert (one == other) == (one.encode() == other.encode())


@given(contexts)
@settings(deadline=None)
def test_decodable(context: Context) -> None:
    """An encoding reads back into exactly the label, the kind, and every field's name, type and value."""
    encoded, parts = context.encode(), []
    while encoded:
        size = int.from_bytes(encoded[:2], "big")
        parts.append(encoded[2 : 2 + size])
        encoded = encoded[2 + size :]
    values = [v[1:].decode() if v[:1] == b"s" else int.from_bytes(v[1:], "big") for v in parts[3::2]]
    names = [name.decode() for name in parts[2::2]]

    assert [b"twinlock.context.v1", context.kind.encode()] == parts[:2]
    assert context == type(context)(**dict(zip(names, values, strict=True)))


@given(texts, texts, texts)
@settings(deadline=None)
def test_no_sliding(tenant: str, container: str, item: str) -> None:
    """Characters that slide from one field into the next change the encoding (law 2)."""
    one = ItemContext(tenant + container, "c", 1, item, 1)
    other = ItemContext(tenant, container + "c", 1, item, 1)

    assert one.encode() != other.encode()


def test_numbers_are_not_text() -> None:
    """A number and the text of the same bytes encode differently."""
    number = ItemContext("t", "c", int.from_bytes(b"12345678", "big"), "i", 1).encode()
    text = ItemContext("t", "12345678", 1, "i", 1).encode()

    assert b"\x00\x09i12345678" in number
    assert b"\x00\x09s12345678" in text


def test_kinds_differ() -> None:
    """No two kinds of context share a kind."""
    kinds = [cls.kind for cls in (PolicyKeyContext, ContainerKeyContext, ItemContext)]

    assert ["policy-key", "container-key", "item"] == kinds


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tenant": ""}, ValueError),
        ({"item": "x" * (MAX_STRING_BYTES + 1)}, ValueError),
        ({"item": "é" * (MAX_STRING_BYTES // 2 + 1)}, ValueError),
        ({"item": "\ud800"}, ValueError),
        ({"version": -1}, ValueError),
        ({"version": MAX_INT + 1}, ValueError),
        ({"version": True}, TypeError),
        ({"version": 1.0}, TypeError),
        ({"tenant": None}, TypeError),
        ({"tenant": b"t"}, TypeError),
    ],
)
def test_bounds(change: dict[str, Any], error: type[Exception]) -> None:
    """A value that is empty, too long, out of range or of another type makes no context."""
    with pytest.raises(error):
        ItemContext(**(ITEM | change))


def test_edges() -> None:
    """The longest string and the largest number still make a context."""
    context = ItemContext(**(ITEM | {"item": "x" * MAX_STRING_BYTES, "version": MAX_INT}))

    assert b"\x02\x01s" + b"x" * MAX_STRING_BYTES in context.encode()


def test_slots() -> None:
    """A policy key has three places and no fourth."""
    with pytest.raises(ValueError, match="slot must be one of a, availability, b"):
        PolicyKeyContext("t", "p", 1, "c")


def test_frozen() -> None:
    """A context can't be changed after it was encoded."""
    context = ItemContext(**ITEM)

    with pytest.raises(FrozenInstanceError):
        context.item = "other"  # type: ignore[misc]  # the misuse under test
