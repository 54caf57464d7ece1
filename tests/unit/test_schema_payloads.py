"""Whatever the models take, the generated schemas take."""

import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import StringConstraints, ValidationError

from schemas.asyncapi import asyncapi
from schemas.event import Event
from schemas.generate import json_schema
from schemas.registry import EVENTS

ASYNCAPI = asyncapi()
_LIMITS = {"ge": "min_value", "le": "max_value"}


def _limits(metadata: list[Any], *names: str) -> dict[str, int]:
    return {_LIMITS[name]: getattr(entry, name) for entry in metadata for name in names if hasattr(entry, name)}


def _text(metadata: list[Any]) -> st.SearchStrategy[str]:
    constraints = [entry for entry in metadata if isinstance(entry, StringConstraints)]
    pattern = next(str(entry.pattern) for entry in constraints if entry.pattern)
    longest = min([entry.max_length for entry in constraints if entry.max_length] or [400])
    return st.from_regex(re.compile(pattern), fullmatch=True).map(lambda text: text[:longest])


def _values(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    """Return values that a field takes, from its annotation: not from the schema, which is what is tested."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        own = [part for entry in inner[1:] for part in getattr(entry, "metadata", [entry])]  # a `Field` holds several
        return _values(inner[0], [*own, *metadata])
    if origin in (Union, UnionType):
        return st.one_of([_values(part, []) for part in inner])
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(_values(inner[0], []), max_size=5).map(tuple)
    if origin is tuple:
        return st.tuples(*[_values(part, []) for part in inner])
    if origin is Mapping:
        return st.dictionaries(_values(inner[0], []), _values(inner[1], []))
    return _scalar(annotation, metadata)


def _scalar(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    if annotation is str:
        return _text(metadata)
    if annotation is int:
        return st.integers(**_limits(metadata, "ge", "le"))
    simple: dict[Any, st.SearchStrategy[Any]] = {bool: st.booleans(), NoneType: st.none()}
    return simple[annotation] if annotation in simple else st.sampled_from(annotation)


def _payload(model: type[Event]) -> st.SearchStrategy[dict[str, Any]]:
    """Return whole and partial arguments: a field with a default is left out now and then."""
    fields = {name: _values(info.annotation, info.metadata) for name, info in model.model_fields.items()}
    required = {name: fields[name] for name, info in model.model_fields.items() if info.is_required()}
    return st.fixed_dictionaries(required, optional={name: fields[name] for name in fields if name not in required})


@st.composite
def _events(draw: st.DrawFn) -> Event:
    model = draw(st.sampled_from(list(EVENTS.values())))
    try:
        return model.model_validate(draw(_payload(model)))
    except ValidationError as error:
        # A rule over several fields, which no single field's strategy can know, has no place of its own.
        assume([()] != [fault["loc"] for fault in error.errors()])
        raise


VALIDATORS = {name: Draft202012Validator(json_schema(name, model)) for name, model in EVENTS.items()}


@given(event=_events())
def test_every_payload_fits(event: Event) -> None:
    """Whatever a producer can put into an event fits the schema of its type, in both dialects."""
    data = event.model_dump(mode="json", exclude_none=True)
    entry = ASYNCAPI["components"]["schemas"][type(event).__name__]["schema"]

    assert [] == list(VALIDATORS[event.type].iter_errors(data))
    assert [] == list(Draft7Validator({**ASYNCAPI, **entry}).iter_errors(data))
