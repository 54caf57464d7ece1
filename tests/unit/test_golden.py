"""Events of earlier minor versions: nobody changes what was frozen, and today's program understands it."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import parse
from schemas.generate import json_schema
from schemas.registry import EVENTS
from tests.golden.comparing import differences

GOLDEN = Path(__file__).parents[1] / "golden"
SUMS = "SHA256SUMS"
# The digest of a version's list of digests; a version gets its line when it is frozen, and no line ever changes.
FROZEN = {
    "0.1": "2f7edcfbe1d69efad8dcdfe854560eaef42f1128a332829acbc55f767b1b4587",
}
LINES = [
    pytest.param(line, id=f"{minor}-{number}")
    for minor in FROZEN
    for number, line in enumerate((GOLDEN / minor / "events.jsonl").read_bytes().splitlines(), 1)
]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("minor", FROZEN)
def test_untouched(minor: str) -> None:
    """What was frozen is there byte for byte, and nothing beside it."""
    folder = GOLDEN / minor
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, name in map(str.split, lines)}

    assert FROZEN[minor] == _digest(folder / SUMS)
    assert listed == {path.name: _digest(path) for path in folder.iterdir() if path.name != SUMS}


def test_every_minor_version() -> None:
    """Every minor version up to this one is frozen."""
    major, minor = map(int, version("twinlock").split(".")[:2])

    assert {f"{major}.{number}" for number in range(1, minor + 1)} <= set(FROZEN)


@pytest.mark.parametrize("line", LINES)
def test_understood(line: bytes) -> None:
    """An event as an earlier version wrote it is read, and says what it said; so is one with more in it."""
    envelope, event = parse(line)
    document = json.loads(line)
    more = {**document, "shade": "blue", "data": {**document["data"], "shade": {"of": ["blue"]}}}

    assert document["data"].items() <= event.model_dump(mode="json", exclude_none=True).items()
    assert (document["type"], document["id"]) == (event.type, envelope.id)
    assert event == parse(json.dumps(more).encode())[1]


@pytest.mark.parametrize("minor", FROZEN)
def test_compatible(minor: str) -> None:
    """No type of an earlier version is gone, and none changed in a way that the other version could not read."""
    frozen = json.loads((GOLDEN / minor / "schemas.json").read_text(encoding="utf-8"))
    written = {json.loads(line)["type"] for line in (GOLDEN / minor / "events.jsonl").read_bytes().splitlines()}
    there = {name: json_schema(name, EVENTS[name]) for name in frozen if name in EVENTS}

    assert set(frozen) == set(there) == written
    assert {} == {name: found for name, schema in frozen.items() if (found := differences(schema, there[name]))}


_TEXT = {"type": "string", "maxLength": 9}
_WAS: dict[str, Any] = {
    "properties": {"a": _TEXT, "e": {"$ref": "#/$defs/E"}},
    "required": ["a"],
    "$defs": {"E": {"enum": ["x", "y"]}},
}


def _with(**changes: Any) -> dict[str, Any]:
    return {**_WAS, **changes}


@pytest.mark.parametrize(
    ("now", "found"),
    [
        pytest.param(_with(properties=_WAS["properties"] | {"b": _TEXT}), [], id="new member"),
        pytest.param(_with(**{"$defs": {"E": {"enum": ["x", "y", "z"]}}}), [], id="new value"),
        pytest.param(_with(description="another"), [], id="another description"),
        pytest.param(_with(properties={"a": _TEXT}), ["e is gone"], id="gone"),
        pytest.param(_with(required=["a", "e"]), ["e has to be there now"], id="required"),
        pytest.param(_with(required=[]), ["a need not be there any more"], id="optional"),
        pytest.param(_with(**{"$defs": {"E": {"enum": ["x"]}}}), ["e is no longer what it was"], id="value gone"),
        pytest.param(
            _with(properties=_WAS["properties"] | {"a": {"type": "string", "maxLength": 8}}),
            ["a is no longer what it was"],
            id="narrowed",
        ),
        pytest.param(_with(oneOf=[{}]), ["the rule oneOf of the whole changed"], id="rule"),
    ],
)
def test_differences(now: dict[str, Any], found: list[str]) -> None:
    """New members with defaults and new values are let through, everything else is named."""
    assert found == differences(_WAS, now)
