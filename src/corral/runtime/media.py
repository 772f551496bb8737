"""The images and sounds of a request: told apart, checked against the model, made plain before an engine is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from anyio import to_thread

from corral.config import Settings
from corral.engine.base import Message
from corral.errors import PROMPT, InvalidRequest
from corral.media.converter import Converter
from corral.media.kinds import kind_of
from corral.media.sounds import plain_sound
from corral.runtime.conversations import check_media
from corral.runtime.requests import ChatRequest, GenerateRequest

AnyRequest = TypeVar("AnyRequest", bound=ChatRequest | GenerateRequest)


@dataclass(frozen=True, slots=True)
class MediaReader:
    """Reads what requests bring beside text, within the owner's limits."""

    converter: Converter
    audio_max_bytes: int
    audio_max_s: float

    @classmethod
    def of(cls, settings: Settings, converter: Converter) -> MediaReader:
        """The reader for a server."""
        return cls(converter, settings.audio_max_bytes, settings.audio_max_length)

    async def read(self, request: AnyRequest) -> AnyRequest:
        """``request`` with images and sounds as the engine may have them. Sounds may stand among the images.

        Raises `NotSupported` for what the model cannot see or hear, `InvalidRequest` for what is no image or sound, or too large.
        """
        if isinstance(request, GenerateRequest):
            if not request.images and not request.audio:
                return request
            if request.suffix:
                raise InvalidRequest("images and sounds go with a prompt, and cannot be used together with suffix")
            (message,) = await self._read(request, (_prompt(request),))
            return replace(request, images=message.images, audio=message.audio)
        if not any(message.images or message.audio for message in request.messages):
            return request
        return replace(request, messages=await self._read(request, request.messages))

    async def _read(self, request: ChatRequest | GenerateRequest, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        sorted_out = tuple(_sorted_out(message) for message in messages)
        check_media(request, sorted_out)
        images = _Numbered("image", sum(len(message.images) for message in sorted_out))
        sounds = _Numbered("sound", sum(len(message.audio) for message in sorted_out))
        read = []
        for message in sorted_out:
            pictures = [await self._image(data, images.next()) for data in message.images]
            audio = [await self._sound(data, sounds.next()) for data in message.audio]
            read.append(replace(message, images=tuple(pictures), audio=tuple(audio)))
        return tuple(read)

    async def _image(self, data: bytes, which: str) -> bytes:
        try:
            return (await self.converter.picture(data)).data
        except InvalidRequest as exc:
            raise InvalidRequest(f"{which}{exc}", param=PROMPT) from exc

    async def _sound(self, data: bytes, which: str) -> bytes:
        try:
            return await to_thread.run_sync(self._plain_sound, data)
        except InvalidRequest as exc:
            raise InvalidRequest(f"{which}{exc}", param=PROMPT) from exc

    def _plain_sound(self, data: bytes) -> bytes:
        return plain_sound(data, max_bytes=self.audio_max_bytes, max_s=self.audio_max_s)


@dataclass(slots=True)
class _Numbered:
    """Which of several is meant, for errors; nothing is said where there is only one."""

    what: str
    total: int
    number: int = 0

    def next(self) -> str:
        self.number += 1
        return f"{self.what} {self.number} of {self.total}: " if self.total > 1 else ""


def _prompt(request: GenerateRequest) -> Message:
    return Message("user", images=request.images, audio=request.audio)


def _sorted_out(message: Message) -> Message:
    """The native API has one list for both."""
    heard = tuple(data for data in message.images if kind_of(data).holds == "audio")
    if not heard:
        return message
    seen = tuple(data for data in message.images if kind_of(data).holds != "audio")
    return replace(message, images=seen, audio=(*heard, *message.audio))
