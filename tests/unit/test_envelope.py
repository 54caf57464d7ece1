"""The one door for messages: what comes in, and exactly how everything else is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.envelope import MAX_MESSAGE_BYTES, Envelope, parse, serialise
from schemas.event import Event, Malformed, MessageRefused, TooLarge, UnknownType, UnknownVersion
from schemas.facts import PolicyRefreshed
from schemas.generate import json_schema
from schemas.registry import EVENTS
from schemas.requests import AssignmentRequested, MoveRequested

CANARY = "canary-7f3b"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOLDEN = [
    json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[1] / "vectors" / "golden").glob("*.json"))
]
REFUSED_BY = {
    "too-large": TooLarge,
    "malformed": Malformed,
    "unknown-type": UnknownType,
    "unknown-version": UnknownVersion,
}


def _message(**changes: Any) -> dict[str, Any]:
    """Return a request for a move, changed; a change to None leaves the attribute out."""
    message = {
        "specversion": "1.0",
        "id": "one",
        "source": "urn:test",
        "type": MoveRequested.type,
        "time": "2026-01-02T03:04:05Z",
        "data": {"mailbox": "anna@contoso.example"},
    }
    return {name: value for name, value in {**message, **changes}.items() if value is not None}


def _refused(body: bytes) -> MessageRefused:
    with pytest.raises(MessageRefused) as caught:
        parse(body)
    assert CANARY not in caught.value.detail
    assert caught.value.__cause__ is None
    return caught.value


def _refused_message(**changes: Any) -> str:
    refusal = _refused(json.dumps(_message(**changes)).encode())
    assert Malformed is type(refusal)
    return refusal.detail


def test_least() -> None:
    """An envelope with the required attributes alone is taken, and starts its own correlation."""
    envelope, event = parse(json.dumps(_message()).encode())

    assert MoveRequested(mailbox="anna@contoso.example") == event
    assert "one" == envelope.correlation
    assert NOW == envelope.time


@pytest.mark.parametrize("attribute", ["specversion", "id", "source", "type", "time", "data"])
def test_missing_attribute(attribute: str) -> None:
    """A missing required attribute is named."""
    assert f"{attribute}: Field required" in _refused_message(**{attribute: None})


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("specversion", "0.3"),
        ("specversion", 1.0),
        ("id", ""),
        ("id", 7),
        ("id", f"{CANARY}\n"),
        ("id", f"{CANARY} two words"),
        ("id", "x" * 101),
        ("source", ""),
        ("source", f"urn:{CANARY}\x1b[2J"),
        ("source", f"urn:{CANARY}\x85"),
        ("source", "x" * 201),
        ("type", ["twinlock"]),
        ("time", "2026-01-02T03:04:05"),
        ("time", "2026-01-02"),
        ("time", "1767323045"),
        ("time", 1767323045),
        ("time", "2026-02-30T03:04:05Z"),
        ("time", "0001-01-01T00:00:00+14:00"),
        ("time", f"yesterday, {CANARY}"),
        ("subject", "x" * 321),
        ("subject", {"of": CANARY}),
        ("datacontenttype", "text/plain"),
        ("correlationid", f"{CANARY};--"),
        ("data", [CANARY]),
        ("data", CANARY),
    ],
)
def test_wrong_attribute(attribute: str, value: Any) -> None:
    """An attribute that CloudEvents or its bounds do not allow is named, and its value is not told."""
    assert f"{attribute}: " in _refused_message(**{attribute: value})


@pytest.mark.parametrize(
    ("event_type", "field", "data"),
    [
        ("twinlock.move.requested.v1", "mailbox", {}),
        ("twinlock.move.requested.v1", "mailbox", {"mailbox": None}),
        ("twinlock.move.requested.v1", "mailbox", {"mailbox": [CANARY]}),
        ("twinlock.move.requested.v1", "mailbox", {"mailbox": f"{CANARY} is no address"}),
        ("twinlock.move.requested.v1", "mailbox", {"mailbox": "anna@contoso.example\x00"}),
        ("twinlock.refresh.requested.v1", "new_policy_key", {"policy": "p", "new_policy_key": "true"}),
        ("twinlock.refresh.requested.v1", "new_policy_key", {"policy": "p", "new_policy_key": 1}),
        ("twinlock.refresh.requested.v1", "policy", {"policy": f"{CANARY}\r\nLOG LINE"}),
        ("twinlock.assignment.requested.v1", "mailboxes.1", {"policy": "p", "mailboxes": ["a@b", CANARY]}),
        ("twinlock.assignment.requested.v1", "mailboxes", {"policy": "p", "mailboxes": {CANARY: "a@b"}}),
        ("twinlock.assignment.requested.v1", "mailboxes", {"policy": "p", "mailboxes": ["a@b"] * 501}),
        ("twinlock.assignment.requested.v1", "body", {"policy": "p"}),
        ("twinlock.assignment.requested.v1", "body", {"policy": "p", "mailboxes": ["a@b"], "all_mailboxes": True}),
        ("twinlock.assignment.woken.v1", "slot", {"slot": -1}),
        ("twinlock.assignment.woken.v1", "slot", {"slot": "1"}),
        ("twinlock.assignment.woken.v1", "slot", {"slot": 1.0}),
        ("twinlock.assignment.woken.v1", "slot", {"slot": True}),
        ("twinlock.assignment.woken.v1", "slot", {"slot": 2**53}),
        ("twinlock.assignment.woken.v1", "slot", {"slot": 10**4000}),
        ("twinlock.policy.requested.v1", "keys", {**GOLDEN[0]["data"], "mailbox": "data of another type"}),
    ],
)
def test_wrong_data(event_type: str, field: str, data: dict[str, Any]) -> None:
    """Data that does not fit its type is refused with the type and the field, and without the value."""
    detail = _refused_message(type=event_type, data=data)

    assert detail.startswith(f"not data of {event_type}: ")
    assert f"{field}: " in detail


def test_map_keys_are_values() -> None:
    """The keys of a map are the sender's words: the refusal names the map alone."""
    data = {"policy": "p", "version": 1, "tenant": "t", "generation": 1, "key_versions": {CANARY: "1", "a": ""}}
    detail = _refused_message(type=PolicyRefreshed.type, data=data)

    assert "key_versions.*: " in detail
    assert "key_versions.*: String should have at least 1 character" in detail


def test_many_faults() -> None:
    """A message full of faults gives a refusal of bounded length that says how many there are."""
    detail = _refused_message(type=AssignmentRequested.type, data={"policy": "p", "mailboxes": [CANARY] * 500})

    assert detail.endswith("; and 495 more")
    assert len(detail) < 2000


@pytest.mark.parametrize(
    "name",
    [
        "twinlock.move.requested.v2",
        "twinlock.move.requested.v0",
        "twinlock.move.requested.v01",
        "twinlock.move.requested",
    ],
)
def test_unknown_version(name: str) -> None:
    """A known type in another version is told apart, with the versions that are read."""
    refusal = _refused(json.dumps(_message(type=name)).encode())

    assert UnknownVersion is type(refusal)
    assert "twinlock.move.requested.v1" in refusal.detail


@pytest.mark.parametrize("digits", [7, 5000])
def test_endless_version(digits: int) -> None:
    """A version with more digits than anybody counts is no version, and refused as any type is that nobody defined."""
    refusal = _refused(json.dumps(_message(type=f"twinlock.move.requested.v{'9' * digits}")).encode())

    assert isinstance(refusal, MessageRefused)
    assert UnknownVersion is not type(refusal)


@pytest.mark.parametrize("name", ["twinlock.move.asked.v1", "com.example.order.placed", CANARY, "v1", ".v1"])
def test_unknown_type(name: str) -> None:
    """A type that nobody defined is refused as such."""
    assert UnknownType is type(_refused(json.dumps(_message(type=name)).encode()))


def test_too_large() -> None:
    """A message over the limit is refused before it is looked at; one at the limit is not."""
    body = json.dumps(_message()).encode()
    at_the_limit = body + b" " * (MAX_MESSAGE_BYTES - len(body))

    assert "one" == parse(at_the_limit)[0].id
    assert TooLarge is type(_refused(at_the_limit + b" "))
    assert TooLarge is type(_refused(b"\xff" * (MAX_MESSAGE_BYTES + 1)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"canary-7f3b"',
        b"canary-7f3b",
        b"{'id': 'canary-7f3b'}",
        b'{"id": "canary-7f3b"',
        b'{"id": "canary-7f3b",}',
        b'{"id": "canary-7f3b"} {}',
        b'{"id": "canary-7f3b\xff"}',
        b'{"id": "canary-7f3b\\ud800"}',
        b'{"id": "canary-7f3b\x00"}',
        b"\xef\xbb\xbf{}",
        '{"id": "canary-7f3b"}'.encode("utf-16"),
        b"[" * MAX_MESSAGE_BYTES,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"data": ' + b'{"a":' * 150 + b"1" + b"}" * 151,
    ],
)
def test_not_an_envelope(body: bytes) -> None:
    """What is not one JSON object in UTF-8 of bounded depth is refused as malformed."""
    assert Malformed is type(_refused(body))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b'"id": "one"', b'"id": "one", "id": "canary-7f3b"', "id: the name is there twice"),
        (b'"mailbox": ', b'"mailbox": "canary@7f3b", "mailbox": ', "mailbox: the name is there twice"),
        (b'"mailbox": ', b'"mail\\u0062ox": "canary@7f3b", "mailbox": ', "mailbox: the name is there twice"),
        (b'"mailbox": ', b'"canary-7f3b": 1, "canary-7f3b": 2, "mailbox": ', "*: the name is there twice"),
        (b'"mailbox": ', b'"later": NaN, "mailbox": ', "NaN"),
        (b'"mailbox": ', b'"later": -Infinity, "mailbox": ', "NaN"),
        (b'"mailbox": ', b'"later": 1e999, "mailbox": ', "out of range"),
        (b'"mailbox": ', b'"later": ' + b"9" * 5000 + b', "mailbox": ', "out of range"),
    ],
)
def test_ambiguous(old: bytes, new: bytes, told: str) -> None:
    """JSON that two readers could understand differently is refused, in members that nobody reads too."""
    refusal = _refused(json.dumps(_message()).encode().replace(old, new))

    assert Malformed is type(refusal)
    assert told in refusal.detail


def test_widest_number() -> None:
    """A number as long as Python reads at all, in a member that nobody reads, does no harm."""
    data = {"mailbox": "anna@contoso.example", "later": 10**4299}

    assert MoveRequested.type == parse(json.dumps(_message(data=data)).encode())[1].type


@given(body=st.binary(max_size=2000) | st.text(max_size=2000).map(lambda text: text.encode(errors="surrogatepass")))
def test_rubbish(body: bytes) -> None:
    """Rubbish is never anything but refused."""
    _refused(body)


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(CANARY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just(CANARY), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """Return a golden message with one or two members changed, or with a few bytes changed."""
    message = json.loads(json.dumps(draw(st.sampled_from(GOLDEN))))
    for _ in range(draw(st.integers(0, 2))):
        part = draw(st.sampled_from([message, *[part for part in message.values() if part and isinstance(part, dict)]]))
        part[draw(st.sampled_from(sorted(part)))] = draw(_JUNK)
    body = json.dumps(message, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    start = draw(st.integers(0, len(body)))
    return body[:start] + draw(st.just(b"") | st.binary(max_size=4)) + body[start + draw(st.integers(0, 4)) :]


SCHEMAS = {name: Draft202012Validator(json_schema(name, model)) for name, model in EVENTS.items()}


@given(body=_mutated())
def test_mutated(body: bytes) -> None:
    """A changed message is refused without its values, or fits the published schema and travels on unchanged."""
    found = _outcome(body)
    if isinstance(found, MessageRefused):
        assert REFUSED_BY[found.reason] is type(found)
        assert CANARY not in found.detail
        assert found.detail.isprintable()
    else:
        assert found == parse(serialise(found[0]))
        assert SCHEMAS[found[1].type].is_valid(found[1].model_dump(mode="json", exclude_none=True))


def _outcome(body: bytes) -> tuple[Envelope, Event] | MessageRefused:
    try:
        return parse(body)
    except MessageRefused as refusal:
        return refusal
