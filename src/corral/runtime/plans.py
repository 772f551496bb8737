"""What placement decides on, made of a model, its wishes and the settings; and an engine's configuration, made of a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from corral.config import Settings
from corral.engine.base import EngineConfig
from corral.errors import StoreError
from corral.gguf import MemoryShape
from corral.library import ModelSpec
from corral.runtime.options import EngineWishes
from corral.runtime.placement import CPU, Plan, Rules, Shape, Wish, plan

_SMALL_BATCH, _LARGE_BATCH = 512, 2048  # tokens that an embedding model reads together
_FLASH: dict[str, Literal["auto", "on", "off"]] = {"1": "on", "true": "on", "on": "on", "auto": "auto"}


def shape_of(spec: ModelSpec) -> Shape:
    """What matters of a model for its placement. Raises `StoreError` when one of its files is gone."""
    return Shape(
        memory=spec.facts.memory if spec.facts else MemoryShape(),
        weights_bytes=sum(_size(spec, path) for path in (*spec.all_weights, *spec.adapters)),
        projector_bytes=sum(_size(spec, path) for path in spec.projectors),
        trained_context=(spec.facts.context_length or 0) if spec.facts else 0,
    )


def wish_of(spec: ModelSpec, settings: Settings, wishes: EngineWishes) -> Wish:
    """What is asked of an engine, the settings filling in for the request and the model."""
    batch = wishes.batch
    if spec.only_reads and not batch:
        batch = _LARGE_BATCH
    return Wish(
        context=wishes.num_ctx or settings.context_length or None,
        slots=wishes.slots or settings.num_parallel,
        cache_type=settings.kv_cache_type,
        batch=batch,
        gpu_layers=wishes.gpu_layers,
        main_gpu=wishes.main_gpu,
        shares_pool=not spec.only_reads,
    )


def rules_of(settings: Settings) -> Rules:
    """What the operator wants of all placements."""
    fallback = settings.kv_cache_fallback
    return Rules(
        most_models=settings.max_loaded_models,
        spread=settings.sched_spread,
        device_reserve_bytes=settings.gpu_overhead,
        small_cache_type=None if fallback == "off" else fallback,
        processor_instead=settings.cpu_fallback,
    )


def engine_config(
    spec: ModelSpec,
    settings: Settings,
    wishes: EngineWishes,
    planned: Plan,
    free_bytes: int,
    main_gpu: int | None = None,
) -> EngineConfig:
    """What the engine is started with by a plan. ``free_bytes`` of main memory are free; ``main_gpu`` is its one device."""
    config = EngineConfig(
        weights=spec.weights,
        more_weights=spec.more_weights,
        adapters=spec.adapters,
        projector=spec.projectors[0] if spec.projectors else None,
        context=planned.context,
        slots=planned.slots,
        pool_tokens=planned.pool_tokens,
        embedding=spec.only_reads,
        rerank="rerank" in spec.capabilities,
        batch=wishes.batch,
        threads=wishes.threads,
        gpu_layers=planned.gpu_layers,
        main_gpu=main_gpu,
        mmap=wishes.mmap,
        flash_attention=_FLASH.get(settings.flash_attention, "off"),
        kv_cache_type=planned.cache_type,
        prompt_cache_mib=min(1024, (free_bytes >> 20) // 20),
    )
    if config.embedding and not wishes.batch:
        # It reads a text at once, and several together, as far as they fit into a batch.
        config = replace(config, batch=max(_SMALL_BATCH, min(_LARGE_BATCH, planned.context)))
    return config


def planned_config(
    spec: ModelSpec, settings: Settings, wishes: EngineWishes, free_bytes: int
) -> tuple[EngineConfig, int]:
    """What an engine of ``spec`` is started with on the processor when so much memory is free, and what it is thought to need."""
    wish = wish_of(spec, settings, wishes)
    planned = plan(shape_of(spec), wish, free={CPU: free_bytes}, rules=rules_of(settings))
    return engine_config(spec, settings, wishes, planned, free_bytes), planned.need_bytes


def _size(spec: ModelSpec, path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as exc:
        name = spec.name.short
        raise StoreError(
            f'a file of "{name}" cannot be read: {path}: {exc.strerror}; try: corral verify {name} --repair'
        ) from exc
