"""The keywords of JSON Schema: which a grammar enforces, which say nothing about a value, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from corral.errors import InvalidRequest
from corral.grammar.numbers import Bounds

Schema = Mapping[str, Any]

ANNOTATIONS = frozenset(
    {
        "title", "description", "default", "examples", "example", "$schema", "$id", "id", "$anchor", "$comment", "$vocabulary",
        "deprecated", "readOnly", "writeOnly", "contentMediaType", "contentEncoding", "externalDocs", "xml", "discriminator",
        "strict", "propertyOrdering", "errorMessage", "$defs", "definitions",
    }
)  # fmt: skip
_OF_TYPES = {
    "string": ("minLength", "maxLength", "pattern"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "array": ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"),
    "object": (
        "properties", "required", "additionalProperties", "minProperties", "maxProperties", "unevaluatedProperties",
    ),
}  # fmt: skip
ENFORCED = frozenset(
    {"type", "enum", "const", "format", "nullable", "multipleOf", "$ref", "anyOf", "oneOf", "allOf"}
    | {keyword for keywords in _OF_TYPES.values() for keyword in keywords}
)
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


def refused(place: str, keyword: str, why: str) -> InvalidRequest:
    """The error for a keyword that cannot be enforced, or makes no sense."""
    return InvalidRequest(f'the schema cannot be used: "{keyword}" at {place} {why}')


def check_keywords(schema: Schema, place: str) -> None:
    """Raises `InvalidRequest` for a keyword that no grammar enforces, or whose value is not of its kind."""
    for keyword, value in schema.items():
        if keyword in ANNOTATIONS or keyword.startswith("x-"):
            continue
        if keyword not in ENFORCED:
            raise refused(
                place,
                keyword,
                "cannot be enforced while an answer is generated; try: leave it out and check the answer",
            )
        _check_value(keyword, value, place)


def _check_value(keyword: str, value: Any, place: str) -> None:
    if keyword in ("uniqueItems", "nullable") and not isinstance(value, bool):
        raise refused(place, keyword, "must be true or false")
    if keyword in ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"):
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0 or value != int(value):
            raise refused(place, keyword, f"must be a whole number from 0 on, not {value!r}")
    elif keyword in ("minimum", "maximum", "multipleOf"):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise refused(place, keyword, f"must be a number, not {value!r}")
    elif keyword in ("exclusiveMinimum", "exclusiveMaximum") and not isinstance(value, int | float):
        raise refused(place, keyword, f"must be a number, not {value!r}")
    elif keyword in ("pattern", "format", "$ref") and not isinstance(value, str):
        raise refused(place, keyword, "must be a text")
    elif keyword in ("anyOf", "oneOf", "allOf") and not (isinstance(value, list) and value):
        raise refused(place, keyword, "must be a list of schemas, one at least")
    elif keyword == "enum" and not (isinstance(value, list) and value):
        raise refused(place, keyword, "must be a list of values, one at least")
    elif keyword == "properties" and not isinstance(value, dict):
        raise refused(place, keyword, "must be an object of schemas")
    elif keyword == "required" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise refused(place, keyword, "must be a list of names")
    elif keyword == "prefixItems" and not isinstance(value, list):
        raise refused(place, keyword, "must be a list of schemas")


def types_of(schema: Schema, place: str) -> tuple[str, ...]:
    """The types that a value may have; where none is said, those that the other keywords speak of, or all."""
    said = schema.get("type")
    if said is None:
        kinds = [kind for kind, keywords in _OF_TYPES.items() if any(keyword in schema for keyword in keywords)]
        if not kinds and "format" in schema:
            kinds = ["string"]
        if "multipleOf" in schema and "number" not in kinds:
            kinds.append("number")
        found = tuple(kinds) or tuple(kind for kind in TYPES if kind != "integer")
    else:
        found = tuple(said) if isinstance(said, list) else (said,)
        if not found:
            raise refused(place, "type", "names no type")
        for kind in found:
            if kind not in TYPES:
                raise refused(place, "type", f"is {kind!r}, which is none of {', '.join(TYPES)}")
    if schema.get("nullable") is True and "null" not in found and (said is not None or len(found) < len(TYPES) - 1):
        found = (*found, "null")
    return found


def bounds_of(schema: Schema) -> Bounds:
    """Where numbers may lie. The older spelling, in which ``exclusiveMinimum`` is true or false, is understood."""
    low, high = _number(schema.get("minimum")), _number(schema.get("maximum"))
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    found = Bounds(low, high, above is True and low is not None, below is True and high is not None)
    if above is not None and not isinstance(above, bool):
        found = found.and_(Bounds(low=_number(above), above=True))
    if below is not None and not isinstance(below, bool):
        found = found.and_(Bounds(high=_number(below), below=True))
    return found


def _number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(repr(value))


def kind_of(value: Any) -> str:
    """The type of a value of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if value == int(value) else "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def is_of(kind: str, kinds: tuple[str, ...]) -> bool:
    """Whether a value of ``kind`` has one of ``kinds``."""
    return kind in kinds or (kind == "integer" and "number" in kinds)
