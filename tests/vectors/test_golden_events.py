"""Messages that were once sent must be readable for ever."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from schemas.asyncapi import asyncapi
from schemas.draft07 import draft_07
from schemas.envelope import Envelope, parse, serialise
from schemas.generate import json_schema
from schemas.registry import EVENTS
from schemas.routing import routing_key

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


def _read(path: Path) -> dict[str, Any]:
    message = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(message, dict)
    return message


def _canonical(message: dict[str, Any]) -> bytes:
    return json.dumps(message, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_every_type_has_one() -> None:
    """Every registered type has a golden event, and no golden event has lost its type."""
    found = {_read(path)["type"] for path in GOLDEN}

    assert set(EVENTS) == found


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_same_bytes(path: Path) -> None:
    """A golden event is read, and written again as the same bytes, whatever the order of its members was."""
    message = _read(path)
    envelope, event = parse(json.dumps(message, indent=4).encode())

    assert path.name.startswith(f"{event.type}.")
    assert _canonical(message) == serialise(envelope)
    assert event == EVENTS[event.type].model_validate(message["data"])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_fits_its_schemas(path: Path) -> None:
    """A golden event fits the schema of the envelope and that of its type's data."""
    message = _read(path)
    envelope = Draft202012Validator(json_schema("envelope", Envelope), format_checker=FormatChecker())
    data = Draft202012Validator(json_schema(message["type"], EVENTS[message["type"]]))

    assert [] == list(envelope.iter_errors(message))
    assert [] == list(data.iter_errors(message["data"]))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_fits_its_asyncapi_payload(path: Path) -> None:
    """A golden event fits the payload that the AsyncAPI document declares for its type, and for no other type."""
    message = _read(path)
    document = asyncapi()
    payloads = {name: entry["payload"]["schema"] for name, entry in document["components"]["messages"].items()}
    fitting = [name for name, payload in payloads.items() if Draft7Validator({**document, **payload}).is_valid(message)]

    assert [routing_key(message["type"])] == fitting


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_newer_field(path: Path) -> None:
    """A reader ignores members that a later minor version may add, in the envelope and in the data."""
    message = _read(path)
    newer = {**message, "partitionkey": "north", "data": {**message["data"], "a_later_field": {"of": ["any", "kind"]}}}

    assert parse(_canonical(message))[1] == parse(_canonical(newer))[1]
    assert Draft202012Validator(json_schema(message["type"], EVENTS[message["type"]])).is_valid(newer["data"])


def test_no_uncertain_keyword() -> None:
    """A keyword that could mean something else in draft-07 is refused, not copied."""
    with pytest.raises(ValueError, match="unevaluatedProperties"):
        draft_07({"anyOf": [{"unevaluatedProperties": False}]})

    with pytest.raises(ValueError, match="prefixItems"):
        draft_07({"prefixItems": [True], "items": False})


def test_reference_stands_alone() -> None:
    """What stands beside a reference is kept in draft-07, which would ignore it there."""
    assert {"allOf": [{"$ref": "#/x"}, {"default": 1}]} == draft_07({"$ref": "#/x", "default": 1})
