"""The content of a message: a text, or parts of several kinds."""

from __future__ import annotations

from dataclasses import dataclass, field

from corral.dialects import media
from corral.dialects.gojson import go_type
from corral.dialects.media import Fetched
from corral.durations import quoted
from corral.errors import InvalidRequest

_TEXTS = ("text", "input_text", "output_text")
_FILES = ("file", "input_file")
_EXPECTED = "expected text, image_url or input_audio"


@dataclass(frozen=True, slots=True)
class Content:
    """What a message says and shows. Texts of several parts are lines of one."""

    text: str = ""
    images: tuple[bytes, ...] = field(default=(), repr=False)
    audio: tuple[bytes, ...] = field(default=(), repr=False)


def content(value: object, where: str, fetched: Fetched) -> Content:
    """A text, or a list of parts that is not empty. Raises `InvalidRequest`, in Ollama's words as far as it has some."""
    if isinstance(value, str):
        return Content(value)
    if not isinstance(value, list):
        raise InvalidRequest(f"invalid message content type: {go_type(value)}", param=where)
    if not value:
        raise InvalidRequest("invalid message content: the list of parts is empty", param=where)
    texts: list[str] = []
    images: list[bytes] = []
    audio: list[bytes] = []
    for position, part in enumerate(value):
        place = f"{where}[{position}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str):
            raise InvalidRequest(f'invalid message format: {place} must be an object with a "type"', param=place)
        if kind in _TEXTS or kind == "refusal":
            texts.append(_text(part.get("refusal" if kind == "refusal" else "text"), place))
        elif kind in ("image_url", "input_image"):
            images.append(_image(part.get("image_url"), place, fetched))
        elif kind == "input_audio":
            audio.append(_audio(part.get("input_audio"), place))
        elif kind in _FILES:
            raise InvalidRequest(f"{place}: file inputs are not currently supported", param=place)
        else:
            raise InvalidRequest(
                f"invalid message format: {place} has the type {quoted(kind)}; {_EXPECTED}", param=f"{place}.type"
            )
    return Content("\n".join(texts), tuple(images), tuple(audio))


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"invalid message format: {place} must have a text", param=place)
    return value


def _image(value: object, place: str, fetched: Fetched) -> bytes:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise InvalidRequest(f"invalid message format: {place} must have a URL in image_url", param=place)
    try:
        return media.image(url, fetched)
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc), param=place) from exc


def _audio(value: object, place: str) -> bytes:
    if not isinstance(value, dict):
        raise InvalidRequest(f"invalid input_audio format: {place} must have an object input_audio", param=place)
    data = value.get("data")
    if not isinstance(data, str) or not data:
        raise InvalidRequest("invalid input_audio format: missing data", param=place)
    try:
        return media.decoded(data, "audio")
    except InvalidRequest as exc:
        raise InvalidRequest(f"invalid input_audio base64 data: {exc}", param=place) from exc
