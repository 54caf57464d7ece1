"""Read strangers' JSON strictly: what two readers could understand differently is refused, not guessed."""

import json
from functools import lru_cache, partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.event import Malformed

ModelT = TypeVar("ModelT", bound=BaseModel)
_SHOWN_FAULTS = 5


def read(model: type[ModelT], body: bytes | str, what: str) -> ModelT:
    """Return the model that a JSON text holds; raise `Malformed`, which says `what` it is not and why."""
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise Malformed(f"not {what}: {explain(error, model)}") from None


def refuse_ambiguous(body: bytes, *models: type[BaseModel]) -> None:
    """Raise `Malformed` for JSON that parsers read differently: a name twice, NaN, a number out of range.

    Of two members with one name some readers keep the first, some the last: a request could then be authorised as one
    thing and carried out as another. Call it after `read`, which bounds the depth; only names of `models` are told.
    """
    unique = partial(_unique, frozenset[str]().union(*map(_field_names, models)))
    try:
        json.loads(body, object_pairs_hook=unique, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Malformed("not plain JSON: a number is out of range, or it is nested too deeply") from None


def _unique(known: frozenset[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise Malformed(f"not plain JSON: {_shown(name, known)}: the name is there twice")
        members[name] = value
    return members


def _no_constant(_text: str) -> float:
    raise Malformed("not plain JSON: NaN and Infinity are no JSON numbers")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("out of range")
    return number


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say which fields are wrong and why, without their values and without names that the sender chose."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    known = _field_names(model)
    lines = [f"{_place(fault['loc'], known)}: {fault['msg'].removeprefix('Value error, ')}" for fault in faults]
    more = len(lines) - _SHOWN_FAULTS
    return "; ".join(lines[:_SHOWN_FAULTS]) + (f"; and {more} more" if more > 0 else "")


def _place(location: tuple[int | str, ...], known: frozenset[str]) -> str:
    # The keys of a map are the sender's own words, so they are values too.
    return ".".join(_shown(part, known) for part in location if part != "[key]") or "body"


def _shown(part: int | str, known: frozenset[str]) -> str:
    return str(part) if isinstance(part, int) or part in known else "*"


@lru_cache
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return frozenset(name for part in parts for name in part.get("properties", {}))
