"""Say what keeps programs of two minor versions from understanding each other's events, by their JSON Schemas."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_FOR_PEOPLE = ("title", "description", "default", "examples", "$defs", "$id", "$schema")


def differences(frozen: Schema, present: Schema) -> list[str]:
    """Say what changed that may not: all but new members that need not be there, and new values of an enumeration."""
    was, now = _resolved(frozen, frozen), _resolved(present, present)
    return [*_required(was, now), *_members(was, now), *_rules(was, now)]


def _members(was: Schema, now: Schema) -> Iterator[str]:
    there = now.get("properties", {})
    for name, schema in was.get("properties", {}).items():
        if name not in there:
            yield f"{name} is gone"
        elif not _same(schema, there[name]):
            yield f"{name} is no longer what it was"


def _required(was: Schema, now: Schema) -> Iterator[str]:
    before, after = set(was.get("required", ())), set(now.get("required", ()))
    yield from (f"{name} has to be there now" for name in sorted(after - before))
    yield from (f"{name} need not be there any more" for name in sorted((before - after) & set(now["properties"])))


def _rules(was: Schema, now: Schema) -> Iterator[str]:
    for name in sorted((was.keys() | now.keys()) - {"properties", "required"}):
        if was.get(name) != now.get(name):
            yield f"the rule {name} of the whole changed"


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, dict) and isinstance(now, dict):
        return was.keys() == now.keys() and all(_holds(name, was[name], now[name]) for name in was)
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(_same, was, now))
    return bool(was == now)


def _holds(name: str, was: Any, now: Any) -> bool:
    return set(was) <= set(now) if name == "enum" else _same(was, now)


def _resolved(node: Any, whole: Schema) -> Any:
    """Put what is referred to in its place, and leave out what is for people."""
    if isinstance(node, list):
        return [_resolved(part, whole) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolved(whole["$defs"][node["$ref"].rpartition("/")[2]], whole)
    return {name: _resolved(part, whole) for name, part in node.items() if _counts(name, part)}


def _counts(name: str, part: Any) -> bool:
    # A member may have such a name, too: then it is a schema.
    return name not in _FOR_PEOPLE or (isinstance(part, dict) and "type" in part)
