"""Answers of the native API about models: field names, order and omissions are Ollama's (``api/types.go``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from corral.dialects.gojson import dumps
from corral.dialects.native.answers import local_time
from corral.library import Details, ModelDetails, ModelSummary
from corral.runtime.pool import LoadedModel


def version(text: str) -> bytes:
    """``GET /api/version``."""
    return dumps({"version": text})


def tags(models: Iterable[ModelSummary]) -> bytes:
    """``GET /api/tags``."""
    return dumps({"models": [_entry(model) for model in models]})


def _entry(model: ModelSummary) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": model.name.short,
        "model": model.name.short,
        "modified_at": local_time(model.modified_at),
        "size": model.size,
        "digest": model.digest,
        "details": _details(model.details, lengths=True),
    }
    if model.capabilities:
        entry["capabilities"] = list(model.capabilities)
    return entry


def ps(models: Iterable[LoadedModel]) -> bytes:
    """``GET /api/ps``."""
    return dumps(
        {
            "models": [
                {
                    "name": model.spec.name.short,
                    "model": model.spec.name.short,
                    "size": model.memory_bytes,
                    "digest": model.spec.digest,
                    "details": _details(model.spec.details, lengths=False, parent=False),
                    "expires_at": local_time(model.expires_at),
                    "size_vram": model.device_bytes,
                    "context_length": model.context,
                    "engine": _engine(model),
                }
                for model in models
            ]
        }
    )


def _engine(model: LoadedModel) -> dict[str, Any]:
    """What Corral says of an engine beside what Ollama does."""
    return {
        "state": "loading" if model.loading else "ready",
        "slots": model.slots,
        "slots_in_use": model.load.slots_in_use,
        "queue": model.load.queue,
        "pool_tokens": model.load.pool_tokens,
        "pool_in_use": model.load.pool_in_use,
        "cache_type": model.plan.cache_type,
        "gpu_layers": model.plan.gpu_layers,
        "memory": dict(model.plan.need),
        "pinned": model.pinned,
        "lowered": list(model.plan.lowered),
    }


def show(model: ModelDetails, *, basename: str = "") -> bytes:
    """``POST /api/show``. A ``basename`` takes the place of the file's own."""
    info = dict(model.model_info)
    if basename:
        info = dict(sorted({**info, "general.basename": basename}.items()))
    answer: dict[str, Any] = {
        "license": model.license,
        "modelfile": model.modelfile,
        "parameters": model.parameters,
        "template": model.template,
        "system": model.system,
        "details": _details(model.details, lengths=False),
        "messages": [{"role": role, "content": content} for role, content in model.messages],
        "model_info": info,
        "projector_info": dict(model.projector_info),
        "tensors": [
            {"name": tensor.name, "type": tensor.type_name, "shape": list(tensor.shape)} for tensor in model.tensors
        ],
        "capabilities": list(model.capabilities),
        "modified_at": local_time(model.modified_at),
        "requires": model.requires,
    }
    always = {"details", "model_info", "modified_at"}
    return dumps({name: value for name, value in answer.items() if value or name in always})


def _details(details: Details, *, lengths: bool, parent: bool = True) -> dict[str, Any]:
    written: dict[str, Any] = {
        "parent_model": details.parent_model if parent else "",
        "format": details.format,
        "family": details.family,
        "families": None if details.families is None else list(details.families),
        "parameter_size": details.parameter_size,
        "quantization_level": details.quantization_level,
    }
    if lengths and details.context_length:
        written["context_length"] = details.context_length
    if lengths and details.embedding_length:
        written["embedding_length"] = details.embedding_length
    return written
