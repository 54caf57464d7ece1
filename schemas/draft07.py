"""Translate the JSON Schema 2020-12 that pydantic writes into draft-07."""

from collections.abc import Mapping
from typing import Any

# Keywords that mean the same in both dialects, by what they hold: a plain value, a schema, a list or a map of schemas.
_PLAIN = {
    *("$ref", "const", "default", "description", "enum", "examples", "format", "pattern", "required", "title", "type"),
}
_LIMITS = {
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
}
_SCHEMA = {"additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"}
_SCHEMAS = {"allOf", "anyOf", "oneOf"}
_NAMED_SCHEMAS = {"patternProperties", "properties"}


def draft_07(schema: Any) -> Any:
    """Return the same schema in draft-07; raise ValueError for a keyword whose meaning there is not certain."""
    if not isinstance(schema, Mapping):
        return schema  # true and false are schemas too
    if {"prefixItems", "items"} <= schema.keys():
        raise ValueError("items beside prefixItems would be additionalItems in draft-07")
    return _apart(dict(_translate(keyword, value) for keyword, value in schema.items()))


def _translate(keyword: str, value: Any) -> tuple[str, Any]:
    if keyword in _PLAIN | _LIMITS:
        return keyword, value
    if keyword in _SCHEMA:
        return keyword, draft_07(value)
    if keyword in _SCHEMAS:
        return keyword, [draft_07(part) for part in value]
    if keyword in _NAMED_SCHEMAS:
        return keyword, {name: draft_07(part) for name, part in value.items()}
    if keyword == "prefixItems":
        return "items", [draft_07(part) for part in value]
    raise ValueError(f"the keyword {keyword!r} has no known meaning in draft-07")


def _apart(schema: dict[str, Any]) -> dict[str, Any]:
    # Draft-07 ignores everything that stands beside a $ref.
    if "$ref" not in schema or len(schema) == 1:
        return schema
    reference = schema.pop("$ref")
    return {"allOf": [{"$ref": reference}, schema]}
