"""Freeze the events of a minor version: `python -m tests.golden.freeze 0.1`, once, when that version is released.

Written are the bytes of two events of each type, with all that it can say and with the least, and the JSON Schemas.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from schemas.envelope import enclose, serialise
from schemas.event import Event
from schemas.generate import json_schema
from schemas.identifiers import Workload
from schemas.registry import EVENTS
from schemas.requests import AssignmentRequested, PolicyRequested

HERE = Path(__file__).parent
SUMS = "SHA256SUMS"
_AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
# The first that a field takes is its example.
_TEXTS = (
    "acme",
    "EUR",
    "1",
    "m1@acme.example",
    "local://left/main",
    "ab" * 32,
    "ab" * 64,
    "2026-01-02T03:04:05.000006+00:00",
)
# Of rules over several fields no field's example can know.
_RULED: Mapping[type[Event], Mapping[str, Any]] = {
    AssignmentRequested: {"mailboxes": ("m1@acme.example",), "all_mailboxes": False, "geos": (), "all_geos": False},
    PolicyRequested: {"workload": Workload.SITE, "geo": "EUR", "keys": ("local://left/main", "local://right/main")},
}


def main() -> int:
    """Write the folder of a version, which must not be there yet."""
    (version,) = sys.argv[1:]
    folder = HERE / version
    lines = [line for event in EVENTS.values() for line in _lines(event)]
    folder.mkdir()
    (folder / "events.jsonl").write_bytes(b"".join(lines))
    shapes = {name: json_schema(name, event) for name, event in sorted(EVENTS.items())}
    (folder / "schemas.json").write_text(json.dumps(shapes, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")
    return 0


def _lines(event: type[Event]) -> Iterator[bytes]:
    for how, all_of_it in (("full", True), ("least", False)):
        made = event.model_validate(_arguments(event, all_of_it))
        envelope = enclose(
            made,
            event_id=f"{how}-1",
            source="urn:twinlock:golden",
            time=_AT,
            correlation="golden",
            causation="cause" if all_of_it else None,
        )
        yield serialise(envelope) + b"\n"


def _arguments(event: type[Event], all_of_it: bool) -> dict[str, Any]:
    fields = event.model_fields.items()
    said = {name: _example(info) for name, info in fields if all_of_it or info.is_required()}
    return said | dict(_RULED.get(event, {}))


def _example(info: FieldInfo) -> Any:
    return _of(info.rebuild_annotation())


def _of(annotation: Any) -> Any:
    bare, inner = _bare(annotation)
    if get_origin(bare) is tuple:
        return tuple(_of(part) for part in inner if part is not Ellipsis)
    if isinstance(get_origin(bare), type) and issubclass(get_origin(bare), Mapping):
        return {_of(inner[0]): _of(inner[1])}
    if isinstance(bare, type) and issubclass(bare, Enum):
        return list(bare)[-1]
    if bare is bool:
        return True
    return _first_taken(annotation, [7] if bare is int else _TEXTS)


def _bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return an annotation without what narrows it, and without `None`."""
    if hasattr(annotation, "__metadata__"):
        return _bare(annotation.__origin__)
    if get_origin(annotation) in (Union, UnionType):
        return _bare(next(part for part in get_args(annotation) if part is not NoneType))
    return annotation, get_args(annotation)


def _first_taken(annotation: Any, candidates: Any) -> Any:
    adapter = TypeAdapter(annotation)
    for candidate in candidates:
        try:
            return adapter.validate_python(candidate)
        except ValidationError:
            continue
    raise ValueError(f"no example fits {annotation}")


if __name__ == "__main__":
    sys.exit(main())
