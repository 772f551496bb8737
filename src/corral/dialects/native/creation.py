"""``POST /api/create``, from JSON to a `WantedModel`. Field names, types, error texts and their order are Ollama's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.dialects import gojson
from corral.dialects.gojson import Fields
from corral.dialects.refusals import Refusal
from corral.errors import InvalidName, InvalidRequest, NotSupported
from corral.library import WantedModel
from corral.names import ModelName, ModelReference

_FILES = "map[string]string"


@dataclass(frozen=True, slots=True)
class Create:
    """A request as sent. `decode` refuses what Ollama refuses at once, `wanted` what it refuses when it has begun."""

    model: str
    stream: bool
    origin: str
    files: Mapping[str, str] | None
    adapters: Mapping[str, str]
    texts: Mapping[str, str]
    license: object
    parameters: Mapping[str, Any]
    messages: tuple[tuple[str, str], ...]
    info: Mapping[str, Any]
    allow_requantize: bool

    @classmethod
    def decode(cls, body: bytes) -> Create:
        """Raises `InvalidRequest`."""
        fields = Fields.of(gojson.parse(body), "CreateRequest")
        model, stream = fields.string("model"), fields.boolean("stream")
        name, quantization = fields.string("name"), fields.string("quantization")
        texts = {
            field: fields.string(field) or ""
            for field in (
                "template",
                "system",
                "renderer",
                "parser",
                "requires",
                "quantize",
                "remote_host",
                "draft_quantize",
            )
        }
        texts["quantize"] = texts["quantize"] or quantization or ""
        files, drafts = _files(fields, "files"), _files(fields, "draft_files")
        request = cls(
            model=model or name or "",
            stream=True if stream is None else stream,
            origin=fields.string("from") or "",
            files=files,
            adapters=_digests(fields, "adapters") or {},
            texts=texts,
            license=fields.raw("license"),
            parameters=fields.mapping("parameters", "map[string]interface {}") or {},
            messages=tuple(
                (message.string("role") or "", message.string("content") or "")
                for message in fields.children("messages", "api.Message")
            ),
            info=fields.mapping("info", "map[string]interface {}") or {},
            allow_requantize=fields.boolean("allow_requantize") or False,
        )
        if texts["draft_quantize"] and not drafts:
            raise InvalidRequest("--draft-quantize requires a DRAFT model")
        if drafts:
            raise NotSupported("draft models are not used by this version of Corral; leave out DRAFT")
        return request

    def wanted(self, name: ModelName) -> WantedModel:
        """What is to be made under ``name``. Raises `InvalidRequest`, `NotSupported`, and `Refusal` with a status of Ollama's."""
        texts = self.texts
        if texts["remote_host"]:
            raise NotSupported("models on other servers are not supported: leave out remote_host")
        return WantedModel(
            name=name,
            origin=_origin(self.origin) if self.origin else None,
            files=self.files,
            adapters=self.adapters,
            template=texts["template"],
            system=texts["system"],
            licenses=_licenses(self.license),
            parameters=self.parameters,
            messages=self.messages,
            renderer=texts["renderer"],
            parser=texts["parser"],
            requires=texts["requires"],
            quantize=texts["quantize"],
            allow_requantize=self.allow_requantize,
            info=self.info,
        )


def _origin(text: str) -> ModelName:
    try:
        reference = ModelReference.parse(text)
    except InvalidName as exc:
        raise InvalidRequest("invalid model name") from exc
    if reference.source == "cloud":
        raise NotSupported(f'"{text}" runs on another server, which is not supported')
    return reference.name


def _files(fields: Fields, name: str) -> dict[str, str] | None:
    files = _digests(fields, name)
    for path in files or ():
        if not path or any(part in ("", ".", "..") for part in path.split("/")):
            raise InvalidRequest("file path must be relative")
    return files


def _digests(fields: Fields, name: str) -> dict[str, str] | None:
    """Digests by the names of files."""
    files = fields.mapping(name, _FILES)
    if files is None:
        return None
    inner = Fields({path: digest for path, digest in files.items() if digest is not None}, f"{fields.path}.{name}")
    found = {path: inner.string(path) or "" for path in files}
    if not all(found.values()):
        raise InvalidRequest("invalid digest format")
    return found


def _licenses(value: object) -> tuple[str, ...]:
    """One text or several. Whatever else it is, is found out late in Ollama, and answered with 500."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise Refusal(500, f"json: cannot unmarshal {gojson.kind(value)} into Go value of type []string")
    for item in value:
        if item is not None and not isinstance(item, str):
            raise Refusal(500, f"json: cannot unmarshal {gojson.kind(item)} into Go value of type string")
    return tuple(item for item in value if item)
