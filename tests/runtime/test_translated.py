"""What an engine is started with beyond the files that the manifest names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from corral.engine.base import EngineConfig
from corral.library import Library
from corral.names import ModelName
from corral.runtime.translated import Translated
from corral.store import Store


@pytest.mark.parametrize(
    ("architecture", "projector", "tokens"),
    [
        ("qwen2vl", Path("mmproj.gguf"), 1024),
        ("qwen3vlmoe", Path("mmproj.gguf"), 1024),
        ("qwen3vl", None, None),
        ("gemma3", Path("mmproj.gguf"), None),
    ],
)
def test_models_that_see_small_images_badly_get_larger_ones(
    tmp_path: Path, architecture: str, projector: Path | None, tokens: int | None
) -> None:
    spec = Library(Store(tmp_path / "models")).resolve(ModelName.parse("tiny"))
    assert spec.facts is not None
    spec = replace(spec, facts=replace(spec.facts, architecture=architecture))
    config = EngineConfig(spec.weights, projector=projector)
    found = Translated(tmp_path / "translated").config(spec, config, lambda: None)
    assert found == replace(config, image_min_tokens=tokens)
