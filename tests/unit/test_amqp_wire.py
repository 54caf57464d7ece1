"""What is read from an AMQP delivery: any bytes and headers end in a message or in a refusal of ours."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aio_pika.abc import AbstractIncomingMessage
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from events.amqp import wire
from events.amqp.legible import legible
from events.amqp.refusal import refusal
from events.amqp.transport import dead_letter
from events.amqp.trouble import BrokerGone, bounded
from events.transport import Message
from schemas.envelope import parse
from schemas.event import Malformed, MessageRefused
from twinlock.clock import SystemClock

ATTRIBUTES = {
    "specversion": "1.0",
    "id": "m-1",
    "source": "urn:portal",
    "type": "twinlock.move.requested.v1",
    "time": "2026-01-01T00:00:00Z",
}
DATA = {"mailbox": "ann@acme.example"}
BY = SimpleNamespace(login="one", source="urn:twinlock:test", clock=SystemClock())

scalars_of_json = st.none() | st.booleans() | st.integers() | st.floats() | st.lists(st.integers())
scalars = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.datetimes() | st.floats()
headers = st.dictionaries(
    st.sampled_from(["ce-id", "ce-type", "cloudEvents_id", "cloudEvents:source", "ce-data", "ce-UPPER"]) | st.text(),
    scalars | st.lists(scalars),
)


def delivery(body: bytes, **properties: Any) -> AbstractIncomingMessage:
    known: dict[str, Any] = {"headers": {}, "content_type": None, "user_id": "portal", "message_id": None, "type": None}
    return cast(AbstractIncomingMessage, SimpleNamespace(body=body, exchange="twinlock.requests", **known | properties))


def binary(data: bytes, prefix: str = "cloudEvents_", **more: Any) -> AbstractIncomingMessage:
    found = {prefix + name: value for name, value in (ATTRIBUTES | more).items()}
    return delivery(data, headers=found, content_type="application/json")


words = st.text() | st.sampled_from(["\ud800", "a\udfffb", "€" * 200, "x" * 300, "twinlock.move.requested.v1"])
claims = st.dictionaries(st.sampled_from(["id", "source", "type", "time", "specversion"]), words | scalars_of_json)
bodies = st.binary(max_size=300) | claims.map(lambda found: json.dumps(found).encode())
kinds = st.text() | st.none() | st.just("application/cloudevents+json")


@given(bodies, headers, kinds, st.text() | st.none())
def test_anything(body: bytes, found: dict[str, Any], kind: str | None, user: str | None) -> None:
    """Whatever arrives is refused in our own words, and what takes its place can be sent."""
    came = delivery(body, headers=found, content_type=kind, user_id=user)
    with pytest.raises(MessageRefused):
        wire.arrived(came, believed=False)
    named = wire.claimed(came)
    instead = [
        *refusal(body, named, "portal", "malformed", BY),
        dead_letter("one", wire.Arrived(named, 0, ""), "malformed", "one"),
    ]

    assert 1 <= len(named.id) <= 100
    assert 1 <= len(named.source) <= 200
    assert all(ContentHeader(properties=parcel.message.properties).marshal() for parcel in instead)


def _header(**properties: Any) -> bytes:
    return ContentHeader(body_size=3, properties=Basic.Properties(**properties)).marshal()


@pytest.mark.parametrize(
    "header",
    [
        _header(app_id="portal").replace(b"portal", b"\xff\xfertal"),
        _header(headers={"ab": "cd"}).replace(b"ab", b"\xff\xfe"),
        _header(headers={"ab": "cd"}).replace(b"S\x00", b"?\x00"),
        _header(timestamp=datetime(2026, 1, 1, tzinfo=UTC))[:-8] + b"\xff" * 8,
        _header(app_id="portal")[:-3],
        _header(delivery_mode=2)[:-1] + b"\x07",
    ],
)
def test_illegible(header: bytes) -> None:
    """Properties that can't be read are as if there were none; the size of the body stays."""
    read = ContentHeader()
    read.unmarshal(legible(header))

    assert 3 == read.body_size
    assert (None, None, None) == (read.properties.user_id, read.properties.headers, read.properties.delivery_mode)


def test_legible() -> None:
    """Properties that can be read stay as they are."""
    header = _header(user_id="portal", delivery_mode=2, headers={"a": 1}, timestamp=datetime(2026, 1, 1, tzinfo=UTC))

    assert header == legible(header)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"])
def test_any_time(time: str) -> None:
    """An event of any time can be sent, with the time in a header."""
    body = json.dumps(ATTRIBUTES | {"time": time, "data": DATA}).encode()
    message = Message("portal", "urn:portal", "m-1", ATTRIBUTES["type"], "m-1", body)
    sent = wire.outgoing(message, "one")

    assert ContentHeader(properties=sent.properties).marshal()
    assert time == sent.headers["cloudEvents_time"]


@given(st.binary(max_size=200))
def test_data_stays_data(data: bytes) -> None:
    """In binary mode the body can't become anything but the data of the event."""
    came = binary(data)
    try:
        joined = json.loads(wire.structured(came))
    except Malformed:
        return

    assert {*ATTRIBUTES, "datacontenttype", "data"} == set(joined)
    assert "m-1" == joined["id"]


@pytest.mark.parametrize(
    "data", [b'{},"id":"x"', b'{}}{"id":"x"', b"", b"{}\x00", '{"mailbox":1}'.encode("utf-16"), b"[" * 100_000]
)
def test_injected(data: bytes) -> None:
    """Data that would close its own place in the event is refused."""
    with pytest.raises(MessageRefused):
        parse(wire.structured(binary(data)))


def test_binary_and_structured_are_one() -> None:
    """Both modes of one event are read as the same, and equal messages give equal bytes."""
    plain = json.dumps({**ATTRIBUTES, "datacontenttype": "application/json", "data": DATA}).encode()
    data = json.dumps(DATA).encode()

    assert parse(plain) == parse(wire.structured(binary(data)))
    assert wire.structured(binary(data)) == wire.structured(binary(data, "ce-"))


@pytest.mark.parametrize("kind", ["application/CloudEvents+JSON", "application/cloudevents+json; charset=utf-8"])
def test_structured_bytes_are_untouched(kind: str) -> None:
    """A structured event is taken as the very bytes that came."""
    assert b" {} " == wire.structured(delivery(b" {} ", content_type=kind))


@pytest.mark.parametrize("login", [None, "", "x" * 101])
def test_nobody_vouches(login: str | None) -> None:
    """Without a login that the broker vouches for nothing is read (law 13)."""
    with pytest.raises(wire.NoPublisher):
        wire.arrived(
            binary(json.dumps(DATA).encode()).__class__(**vars(binary(b"{}")) | {"user_id": login}), believed=False
        )


async def test_bounded_hides_nothing_of_ours() -> None:
    """Errors of the library become one of ours; a mistake in our own code stays what it is."""

    async def fails(error: Exception) -> None:
        raise error

    for foreign in (ConnectionError("secret"), RuntimeError("secret"), TimeoutError(), Exception()):
        with pytest.raises(BrokerGone) as caught:
            await bounded(fails(foreign), 1.0)
        assert "secret" not in str(caught.value)
    with pytest.raises(KeyError):
        await bounded(fails(KeyError("mistake")), 1.0)
