"""The generated documents: complete, committed, and true to the models."""

import json
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import TypeAdapter

from schemas.envelope import schema_uri
from schemas.event import Event, EventType
from schemas.facts import AlertChanged, RequestAnswered
from schemas.generate import DIALECT, GENERATED, documents, export
from schemas.registry import EVENTS, FACTS, REQUESTS
from schemas.routing import address, exchange, routing_key

DOCUMENTS = {name: json.loads(text) for name, text in documents().items()}
ASYNCAPI = DOCUMENTS["asyncapi.json"]

# Whoever adds a name here has asked: could a key, a content or a credential ever stand in it?
REVIEWED_NAMES = {
    *("action", "although_revoked", "approval", "approvals", "approver", "contact", "needed", "state"),
    *("all_geos", "all_mailboxes", "assigned", "at", "attempts", "audience", "consumer", "detail", "entries"),
    *("event", "event_type", "head", "key", "positions", "seal", "signature"),  # `key` is a public key's fingerprint
    *("files", "files_encrypted", "generation", "geo", "geos"),
    *("health", "items", "items_encrypted", "job", "key_versions", "keys", "kind", "mailbox", "mailboxes", "mode"),
    *("name", "new_policy_key", "outcome", "policy", "publisher", "reason", "rejected", "request", "request_source"),
    *("request_type", "revocation", "severity", "site", "sites", "sites_done", "slot", "slots", "tenant", "version"),
    *("was", "workload"),
    *("alert", "count", "first_seen", "last_seen", "news", "reasons", "resolved_at", "since"),
}


def test_committed() -> None:
    """The committed documents are those that the models give: `python -m schemas.generate` writes them again."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in GENERATED.iterdir()}

    assert dict(documents()) == committed


def test_export(tmp_path: Path) -> None:
    """An export writes every document into a new folder, and a second one writes the same bytes."""
    folder = tmp_path / "new" / "folder"
    first = {path.name: path.read_bytes() for path in export(folder)}
    second = {path.name: path.read_bytes() for path in export(folder)}

    assert {name: text.encode() for name, text in documents().items()} == first
    assert first == second


@pytest.mark.parametrize("name", [*EVENTS, "envelope"])
def test_dialect(name: str) -> None:
    """Every JSON Schema is valid in the dialect that it pins, and is named as the envelope's `dataschema` says."""
    schema = DOCUMENTS[f"{name}.json"]
    Draft202012Validator.check_schema(schema)

    assert DIALECT == schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert schema_uri(name) == schema["$id"]


def test_draft_07() -> None:
    """Every schema in the AsyncAPI document is valid in the dialect that it declares."""
    components = ASYNCAPI["components"]
    entries = [*components["schemas"].values(), *(message["payload"] for message in components["messages"].values())]
    for entry in entries:
        Draft7Validator.check_schema(entry["schema"])

    assert {"application/schema+json;version=draft-07"} == {entry["schemaFormat"] for entry in entries}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
        for part in node.values():
            yield from _references(part)
    elif isinstance(node, list):
        for part in node:
            yield from _references(part)


def test_references_resolve() -> None:
    """Every reference in the AsyncAPI document leads to something inside it."""
    for reference in set(_references(ASYNCAPI)):
        found = ASYNCAPI
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]

        assert isinstance(found, dict)


_EXCHANGES = dict.fromkeys(REQUESTS, "twinlock.requests") | {
    RequestAnswered: "twinlock.answers",
    AlertChanged: "twinlock.alerts",
}
_ADDRESSES = {
    RequestAnswered: "answer.{publisher}.{outcome}",
    AlertChanged: "alert.{audience}.{tenant}.{severity}.{kind}",
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.type)
def test_channel(event: type[Event]) -> None:
    """Every type has a channel whose address is its routing key, on the exchange of its kind."""
    key = event.type.removeprefix("twinlock.")
    channel = ASYNCAPI["channels"][key]
    binding = channel["bindings"]["amqp"]

    assert _ADDRESSES.get(event, key) == channel["address"] == address(event)
    assert set(re.findall(r"{(\w+)}", address(event))) == set(channel.get("parameters", ()))
    assert "routingKey" == binding["is"]
    assert _EXCHANGES.get(event, "twinlock.events") == exchange(event)
    assert exchange(event) == binding["exchange"]["name"]
    assert event.type == ASYNCAPI["components"]["messages"][key]["name"]


def test_parties() -> None:
    """Publishers send requests, workers send facts, and workers receive both."""
    expected = {
        *(f"publisher.send.{routing_key(event.type)}" for event in REQUESTS),
        *(f"worker.send.{routing_key(event.type)}" for event in FACTS),
        *(f"worker.receive.{name}" for name in map(routing_key, EVENTS)),
    }

    assert expected == set(ASYNCAPI["operations"])


def test_registry() -> None:
    """Every event that is defined is registered, under a type of the agreed form, and is frozen."""
    adapter = TypeAdapter[str](EventType)

    assert set(Event.__subclasses__()) == set(EVENTS.values())
    assert list(EVENTS) == [adapter.validate_python(event.type) for event in EVENTS.values()]
    assert all(event.model_config.get("frozen") for event in EVENTS.values())


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _types(part)


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.type)
def test_no_room_for_keys(event: type[Event]) -> None:
    """No event has a field of bytes, of free form or of a name that nobody reviewed."""
    allowed = {str, int, bool, NoneType}
    types = {part for info in event.model_fields.values() for part in _types(info.annotation) if isinstance(part, type)}
    containers = {part for part in types if get_origin(part) or issubclass(part, Enum)}

    assert set() == types - allowed - containers
    assert set() == set(event.model_fields) - REVIEWED_NAMES


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.type)
def test_every_text_is_bounded(event: type[Event]) -> None:
    """No field takes text of any length, or text that could steer a terminal."""
    for schema in _strings(DOCUMENTS[f"{event.type}.json"]):
        pattern = schema["pattern"]

        assert "maxLength" in schema or re.search(r"\{\d+(,\d+)?\}\$$", pattern)
        assert not any(re.search(pattern, f"a{sign}a@a:a") for sign in "\x00\x07\x1b\x7f\x9b")


def _strings(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "string" and "enum" not in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _strings(part)
