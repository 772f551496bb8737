"""Models of random weights, with templates of the shape of known families: what is right in their answers, a grammar did.

A template begins with a comment that lists its control tokens.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.models import Shape, make
from corral.names import ModelName
from corral.store import Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE

SHAPE = Shape(layers=2, width=128, heads=4, kv_heads=2, head_width=32, feed_forward=256, vocabulary=2176, context=4096)
TEMPLATES = {path.stem: path.read_text().rstrip("\n") for path in sorted(Path(__file__).parent.glob("*.jinja"))}
_TINY_HAS = 2048  # tokens; marks come behind them
_THOUGHT_BEGINS = ("<|channel|>", "[THINK]", "<|START_THINKING|>", "<|channel>")
_THOUGHT_ENDS = ("<|end|>", "[/THINK]", "<|END_THINKING|>", "<channel|>")


def marks(name: str) -> list[str]:
    """The control tokens of a family."""
    first = TEMPLATES[name].partition("\n")[0]
    return first.removeprefix("{#-").removesuffix("-#}").split() if first.startswith("{#-") else []


def thought_marks(name: str) -> list[int]:
    """The tokens with which a thought begins and ends; Tiny's vocabulary has two already."""
    found = [next((m for m in each if m in marks(name)), None) for each in (_THOUGHT_BEGINS, _THOUGHT_ENDS)]
    return [tiny if m is None else _TINY_HAS + marks(name).index(m) for m, tiny in zip(found, (3, 4), strict=True)]


def thinks(name: str) -> bool:
    """Whether its template speaks of thoughts."""
    return "think" in TEMPLATES[name].lower() or "<|channel" in TEMPLATES[name]


def put_family(store: Store, folder: Path, name: str) -> None:
    """Have the family's model in a store."""
    weights = make(SHAPE, folder / f"{name}.gguf", template=TEMPLATES[name], marks=marks(name))
    config = {"model_format": "gguf", "model_family": "qwen3", "architecture": "amd64", "os": "linux"}
    layers = (store.add_file(weights, MediaType.MODEL),)
    store.write(ModelName.parse(name), Manifest(store.add_bytes(json.dumps(config).encode(), CONFIG_TYPE), layers))
