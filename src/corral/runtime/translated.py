"""Files of Ollama's own dialect as files that llama.cpp reads: made once, kept in Corral's data folder, gone with their blob."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from corral.engine.base import EngineConfig
from corral.errors import NotSupported, StoreError
from corral.gguf import read_gguf
from corral.gguf.ollama import Translation, View, translation, view_bytes, write_view
from corral.library import ModelSpec

logger = logging.getLogger(__name__)

# Of the rules and of the writer: what another version made is not used, and removed.
VERSION: Final = 1
# These find their way about an image only if it has about a thousand tokens, as llama.cpp warns and Ollama sees to.
_SEE_SMALL_BADLY: Final = ("qwen2vl", "qwen25vl", "qwen3vl", "qwen3vlmoe")
_ENOUGH_TOKENS: Final = 1024
_LEFTOVER_S = 86_400.0  # after which a half-written file is nobody's work any more


class Translated:
    """The translated files in one folder. Methods block on files; safe to call from threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._one_at_a_time = threading.Lock()

    def config(self, spec: ModelSpec, config: EngineConfig, go_on: Callable[[], None]) -> EngineConfig:
        """``config`` with files that llama.cpp reads in place of those of the dialect, which are made now if they are not there.

        ``go_on`` is asked often, and may raise. Raises `StoreError` where the disk is full or cannot be written.
        """
        config = self._translated(spec, config, go_on)
        if config.projector is not None and spec.facts is not None and spec.facts.architecture in _SEE_SMALL_BADLY:
            config = replace(config, image_min_tokens=_ENOUGH_TOKENS)
        return config

    def _translated(self, spec: ModelSpec, config: EngineConfig, go_on: Callable[[], None]) -> EngineConfig:
        if spec.translation is None and spec.projector_translation is None:
            return config
        with self._one_at_a_time:
            self.sweep(spec.weights.parent)
            if spec.translation is not None:
                config = replace(config, weights=self._file(spec, spec.weights, "model", go_on))
                if spec.translation.projector is not None and config.projector is None:
                    config = replace(config, projector=self._file(spec, spec.weights, "projector", go_on))
            if spec.projector_translation is not None:
                config = replace(config, projector=self._file(spec, spec.projectors[0], "model", go_on))
        return config

    def sweep(self, blobs: Path) -> None:
        """Remove what was made of files that are not in the folder ``blobs`` any more, and what was left half-written."""
        for path in self._folder.glob("sha256-*"):
            blob, _, rest = path.name.partition(".")
            is_current = rest in (f"model.{VERSION}.gguf", f"projector.{VERSION}.gguf")
            is_there = any((blobs / name).exists() for name in (blob, blob.replace("-", ":")))  # the latter is older
            try:
                if (is_current and is_there) or (
                    rest.endswith(".part") and time.time() - path.stat().st_mtime < _LEFTOVER_S
                ):
                    continue
                path.unlink()
            except OSError as exc:  # in use, on Windows; or somebody else was faster
                logger.debug("%s stays: %s", path, exc)

    def _file(self, spec: ModelSpec, blob: Path, part: str, go_on: Callable[[], None]) -> Path:
        path = self._folder / f"{blob.name.replace(':', '-')}.{part}.{VERSION}.gguf"
        if path.exists():
            return path
        source = read_gguf(blob)
        found = translation(source)
        view = _view(found, part)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        started = time.monotonic()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._need_room(spec, view_bytes(view))
            write_view(source, view, temporary, go_on)
            temporary.replace(path)
        except OSError as exc:
            raise StoreError(
                f'"{spec.name.short}" has to be translated from Ollama\'s form, and {self._folder} '
                f"cannot be written: {exc.strerror}"
            ) from exc
        finally:
            with suppress(OSError):  # it is not there, or cannot be
                temporary.unlink()
        logger.info(
            "translated %s of %s from Ollama's form of %s in %.2f s",
            part,
            spec.name.short,
            found.family if found else "",
            time.monotonic() - started,
        )
        return path

    def _need_room(self, spec: ModelSpec, size_bytes: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < size_bytes:
            raise StoreError(
                f'"{spec.name.short}" has to be translated from Ollama\'s form, which takes {size_bytes >> 20} MiB in '
                f"{self._folder}, where {free >> 20} are free; make room, or set CORRAL_DATA to a folder that has some"
            )


def _view(found: Translation | None, part: str) -> View:
    """The file of a translation that is ``part``. A blob never changes, so what was found before is there again."""
    view = None if found is None else found.model if part == "model" else found.projector
    if view is None:
        raise NotSupported("the model's file is not what it was")
    return view
