"""What a projector can, by its metadata, as the families write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.gguf import GgufFile, projector_facts


@pytest.mark.parametrize(
    ("metadata", "sees", "hears"),
    [
        ({"clip.has_vision_encoder": True, "clip.projector_type": "gemma3"}, True, False),
        ({"clip.has_audio_encoder": True, "clip.projector_type": "ultravox"}, False, True),
        ({"clip.has_vision_encoder": False, "clip.has_audio_encoder": True}, False, True),
        ({"clip.has_vision_encoder": True, "clip.has_audio_encoder": True}, True, True),
        ({"clip.has_vision_encoder": True, "clip.has_audio_encoder": False}, True, False),
        (
            {
                "clip.has_vision_encoder": True,
                "clip.has_audio_encoder": True,
                "clip.vision.projector_type": "gemma3nv",
            },
            True,
            False,
        ),
        ({}, True, False),
        ({"clip.has_audio_encoder": "yes"}, True, False),
    ],
)
def test_what_a_projector_says_it_can(metadata: dict[str, bool | str], sees: bool, hears: bool) -> None:
    file = GgufFile(Path("mmproj.gguf"), 3, {**metadata}, (), 0)
    facts = projector_facts(file)
    assert (facts.sees, facts.hears) == (sees, hears)
