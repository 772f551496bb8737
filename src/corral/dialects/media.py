"""Images and sounds inside requests: data URLs, and links whose bytes were fetched before the request was decoded."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from corral.errors import InvalidRequest

Fetched = Mapping[str, bytes]  # by link


def links(body: object) -> Iterator[str]:
    """The links in the JSON of a request that stand where an image may: each is to be fetched before it is decoded.

    Only parts of messages that say they are images are looked at: an address that a tool was called with, or that stands in a
    schema, is nobody's to fetch.

    >>> list(links([{"type": "image_url", "image_url": {"url": "http://a/b.png"}}, {"url": "http://a/c"}]))
    ['http://a/b.png']
    """
    left = [body]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += reversed(item)
        elif isinstance(item, dict):
            url = _image_url(item)
            if is_link(url):
                yield url
            else:
                left += reversed(item.values())


def is_link(url: object) -> TypeGuard[str]:
    """Whether ``url`` leads to another machine, and does not bring its bytes along."""
    return isinstance(url, str) and url[:8].lower().startswith(("http://", "https://"))


def _image_url(part: Mapping[object, object]) -> object:
    """The address in a part of a message: of OpenAI's chats, of its responses, of Anthropic's messages."""
    match part.get("type"), part:
        case "image_url" | "input_image", {"image_url": str(url) | {"url": str(url)}}:
            return url
        case "image", {"source": {"type": "url", "url": str(url)}}:
            return url
    return None


def image(url: str, fetched: Fetched) -> bytes:
    """The bytes of an image: of a ``data:`` URL, or fetched. Raises `InvalidRequest`."""
    if is_link(url):
        if url in fetched:
            return fetched[url]
        raise InvalidRequest(
            "image URLs are not currently supported, please use base64 encoded data instead: "
            "this server fetches images only if its owner sets CORRAL_FETCH_IMAGES=1"
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
