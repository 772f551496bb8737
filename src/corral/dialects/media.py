"""Images and sounds inside requests: data URLs, and links whose bytes were fetched before the request was decoded."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping

from corral.errors import InvalidRequest

Fetched = Mapping[str, bytes]  # by link


def links(body: object) -> Iterator[str]:
    """The links in the JSON of a request that stand where an image may: each is to be fetched before it is decoded."""
    if isinstance(body, dict):
        for key, value in body.items():
            if key in ("image_url", "url") and isinstance(value, str) and value.startswith(("http://", "https://")):
                yield value
            else:
                yield from links(value)
    elif isinstance(body, list):
        for item in body:
            yield from links(item)


def image(url: str, fetched: Fetched) -> bytes:
    """The bytes of an image: of a ``data:`` URL, or fetched. Raises `InvalidRequest`."""
    if url.startswith(("http://", "https://")):
        if url in fetched:
            return fetched[url]
        raise InvalidRequest(
            "image URLs are not currently supported, please use base64 encoded data instead: this server does not fetch them"
        )
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise InvalidRequest("invalid image input: expected a URL such as data:image/png;base64,…")
    return decoded(data, "image")


def decoded(data: str, what: str) -> bytes:
    """The bytes that base64 stands for. Raises `InvalidRequest` that says ``what`` is wrong."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidRequest(f"invalid {what} input: not base64: {exc}") from exc
