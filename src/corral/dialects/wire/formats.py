"""What an answer has to look like: ``response_format``, Ollama's ``format``, ``json_schema``, ``grammar``, ``regex``."""

from __future__ import annotations

import orjson

from corral.dialects.gojson import Fields
from corral.durations import quoted
from corral.engine.base import OutputFormat
from corral.errors import InvalidRequest

FIELDS = ("response_format", "format", "grammar", "regex", "json_schema")


def output(fields: Fields) -> OutputFormat | None:
    """The format that a request asks for, by one of `FIELDS`. Raises `InvalidRequest`."""
    grammar, regex = fields.string("grammar"), fields.string("regex")
    found = {
        "response_format": response_format(fields.raw("response_format"), "response_format"),
        "format": ollama_format(fields.raw("format")),
        "grammar": OutputFormat(grammar=grammar, param="grammar") if grammar else None,
        "regex": OutputFormat(regex=regex, param="regex") if regex else None,
        "json_schema": _schema(fields.raw("json_schema"), "json_schema"),
    }
    given = [name for name, wanted in found.items() if wanted is not None]
    if len(given) > 1:
        raise InvalidRequest(f"{' and '.join(given)} exclude each other; send one of them", param=given[1])
    return found[given[0]] if given else None


def response_format(value: object, where: str) -> OutputFormat | None:
    """``{"type": "text" | "json_object" | "json_schema", …}``; ``null`` is text. Raises `InvalidRequest`.

    A schema stands in ``json_schema.schema``, as llama.cpp has it in ``schema``, or as the Responses API has it, beside the type.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise InvalidRequest(
            f'{where} must be an object with a "type": text, json_object or json_schema', param=f"{where}.type"
        )
    match value["type"].strip().lower():
        case "text":
            return None
        case "json_object":
            return _schema(value.get("schema"), f"{where}.schema") or OutputFormat()
        case "json_schema":
            inner = value.get("json_schema")
            holder, place = (inner, f"{where}.json_schema") if isinstance(inner, dict) else (value, where)
            if (found := _schema(holder.get("schema"), f"{place}.schema")) is not None:
                return found
            missing = f"{place}.schema" if holder is inner or where != "response_format" else f"{where}.json_schema"
            raise InvalidRequest(f"missing required parameter: {missing}", param=missing)
        case "grammar" if isinstance(grammar := value.get("grammar"), str) and grammar:
            return OutputFormat(grammar=grammar, param=f"{where}.grammar")
    raise InvalidRequest(
        f"{where}.type {quoted(value['type'])} is not supported; expected text, json_object or json_schema",
        param=f"{where}.type",
    )


def ollama_format(value: object) -> OutputFormat | None:
    """Ollama's ``format``: ``"json"`` or a JSON Schema; ``null`` and ``""`` are none. Raises `InvalidRequest`."""
    if value is None or value == "":
        return None
    if value == "json":
        return OutputFormat()
    if isinstance(value, dict):
        return OutputFormat(value, param="format")
    text = orjson.dumps(value).decode()
    raise InvalidRequest(
        f'invalid format: {quoted(text)}; expected "json" or a valid JSON Schema object', param="format"
    )


def _schema(value: object, where: str) -> OutputFormat | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be a JSON Schema object", param=where)
    return OutputFormat(value, param=where)
