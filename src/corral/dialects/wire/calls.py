"""Calls of tools as OpenAI's APIs write them."""

from __future__ import annotations

import secrets
import string

import orjson

_LETTERS = string.ascii_letters + string.digits


def call_id(given: str) -> str:
    """The id of a tool call as OpenAI's look; engines have ids without a prefix, or none."""
    return given if given.startswith("call_") else f"call_{given or random_id(24)}"


def random_id(length: int) -> str:
    """Letters and digits that nobody has had before."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def compact(arguments: str) -> str:
    """The arguments without blanks, unless that changes how something is written.

    >>> compact('{ "a": 1 }'), compact('{"a":  1.50}')
    ('{"a":1}', '{"a":  1.50}')
    """
    try:
        compact = orjson.dumps(orjson.loads(arguments)).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return arguments
    return compact if "".join(arguments.split()) == "".join(compact.split()) else arguments
