"""The files of one folder, by their names in it: they may lie in a store under other names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from corral.convert.safetensors import Tensor, read_safetensors
from corral.errors import ConversionError

MAX_JSON_BYTES = 16 << 20
MAX_TOKENIZER_BYTES = 64 << 20  # the largest known has 35 MB
INDEX = "model.safetensors.index.json"


class Folder:
    """Files of a model by relative name; a folder around all of them does not matter."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        named = {str(PurePosixPath(name.replace("\\", "/"))): path for name, path in files.items()}
        self._files = _without_common_folder(named)
        self._parsed: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def names(self, pattern: str) -> list[str]:
        """The names that match a shell pattern, in order."""
        return sorted(name for name in self._files if fnmatchcase(name, pattern))

    def path(self, name: str) -> Path:
        """Where the bytes of ``name`` are. Raises `ConversionError` if there is no such file."""
        try:
            return self._files[name]
        except KeyError:
            raise ConversionError(f"{name} is missing; it belongs to the model and must come with it") from None

    def bytes(self, name: str, most: int) -> bytes:
        """What is in the file. Raises `ConversionError` if it is missing or has more than ``most`` bytes."""
        path = self.path(name)
        if (size := path.stat().st_size) > most:
            raise ConversionError(f"{name} has {size} bytes where no more than {most} make sense")
        return path.read_bytes()

    def text(self, name: str) -> str:
        """A text file."""
        return self.bytes(name, MAX_JSON_BYTES).decode(errors="replace")

    def json(self, name: str) -> dict[str, Any]:
        """The object in a file of JSON; empty where there is no such file."""
        if name not in self._files:
            return {}
        value = self._json(name)
        if not isinstance(value, dict):
            raise ConversionError(f"{name} must be a JSON object")
        return value

    def json_list(self, name: str) -> list[Any]:
        """The list in a file of JSON; empty where there is no such file."""
        value = self._json(name) if name in self._files else []
        return value if isinstance(value, list) else []

    def _json(self, name: str) -> Any:
        if name not in self._parsed:
            data = self.bytes(name, MAX_TOKENIZER_BYTES if name == "tokenizer.json" else MAX_JSON_BYTES)
            try:
                self._parsed[name] = orjson.loads(data)
            except orjson.JSONDecodeError as exc:
                raise ConversionError(f"{name} is not JSON: {exc}") from exc
        return self._parsed[name]

    def tensors(self) -> list[Tensor]:
        """All tensors of the model's safetensors files. Raises `ConversionError` if a file of them is missing or damaged."""
        found: dict[str, Tensor] = {}
        for name in self._weights():
            for tensor in read_safetensors(self.path(name), name):
                if tensor.name in found:
                    raise ConversionError(f'the tensor "{tensor.name[:80]}" is in two files')
                found[tensor.name] = tensor
        return list(found.values())

    def _weights(self) -> list[str]:
        """The names of the files with weights."""
        if INDEX in self._files:
            weights = self.json(INDEX).get("weight_map")
            if not isinstance(weights, dict):
                raise ConversionError(f'{INDEX} has no "weight_map"')
            return sorted({str(name) for name in weights.values()})
        names = self.names("model*.safetensors") or list(self._others())
        if not names:
            raise ConversionError(self._why_no_weights())
        for name in names:
            if shard := re.fullmatch(r"(.*-)(\d{5})-of-(\d{5})\.safetensors", name):
                for number in range(1, int(shard[3]) + 1):
                    self.path(f"{shard[1]}{number:05}-of-{shard[3]}.safetensors")
        return names

    def _others(self) -> Iterator[str]:
        for name in self.names("*.safetensors"):
            if "/" not in name and not name.startswith(("consolidated", "adapter_model")):
                yield name

    def _why_no_weights(self) -> str:
        if self.names("consolidated*.safetensors"):
            return (
                "consolidated.safetensors is Mistral's own layout, which is not supported; take the model*.safetensors"
            )
        for pattern in ("*.bin", "*.pth", "*.pt"):
            if pickled := self.names(pattern):
                return f"{pickled[0]} is a pickle, which can run code when it is read; take the model as safetensors"
        return "there is no model*.safetensors among the files"


def _without_common_folder(files: Mapping[str, Path]) -> dict[str, Path]:
    """Names relative to where the configuration is: the folder itself, or the only one in it that has weights."""
    for config in ("config.json", "adapter_config.json"):
        if config in files and any("/" not in name for name in files if name.endswith(".safetensors")):
            return dict(files)
    homes = {str(PurePosixPath(name).parent) for name in files if PurePosixPath(name).name in _CONFIGS}
    homes = {home for home in homes if any(name.startswith(home + "/") and name.endswith(_WEIGHTS) for name in files)}
    if len(homes) != 1:
        return dict(files)
    inside = f"{homes.pop()}/"
    return dict(files) | {name.removeprefix(inside): path for name, path in files.items() if name.startswith(inside)}


_CONFIGS = ("config.json", "adapter_config.json")
_WEIGHTS = ".safetensors"
