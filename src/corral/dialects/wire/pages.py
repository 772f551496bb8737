"""Lists that come page by page, as all of OpenAI's lists do: ``after``, ``limit``, ``order``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from corral.dialects.gojson import dumps
from corral.errors import InvalidRequest

Entry = Mapping[str, Any]


def page(entries: Sequence[Entry], query: Mapping[str, str], *, limit: int, most: int, order: str = "desc") -> bytes:
    """The page of ``entries``, which are oldest first, that ``query`` asks for. Raises `InvalidRequest` that names the field."""
    order = query.get("order", order)
    if order not in ("asc", "desc"):
        raise InvalidRequest(f'order "{order}" is not known; expected "asc" or "desc"', param="order")
    text = query.get("limit", str(limit))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise InvalidRequest(f'limit must be between 1 and {most}, not "{text}"', param="limit")
    listed = list(entries) if order == "asc" else list(reversed(entries))
    if (after := query.get("after")) is not None:
        places = [place for place, entry in enumerate(listed) if entry["id"] == after]
        if not places:
            raise InvalidRequest(f'after "{after}" is not in the list', param="after")
        listed = listed[places[0] + 1 :]
    found = listed[: int(text)]
    ends = {"first_id": found[0]["id"], "last_id": found[-1]["id"]} if found else {"first_id": None, "last_id": None}
    return dumps({"object": "list", "data": found, **ends, "has_more": len(found) < len(listed)})
