"""How a sentence-transformers model makes one vector of many."""

from __future__ import annotations

from pathlib import PurePosixPath

from gguf import PoolingType

from corral.convert.files import Folder
from corral.errors import ConversionError

_MODES = {
    "pooling_mode_mean_tokens": PoolingType.MEAN,
    "pooling_mode_cls_token": PoolingType.CLS,
    "pooling_mode_lasttoken": PoolingType.LAST,
}
_NAMES = {"mean": PoolingType.MEAN, "cls": PoolingType.CLS, "lasttoken": PoolingType.LAST}


def read_pooling(folder: Folder) -> PoolingType | None:
    """The way of pooling by ``modules.json`` or ``1_Pooling/config.json``; ``None`` where neither is there.

    The engine gives vectors unit length when asked, so a module that does that needs nothing. Raises `ConversionError` for
    other modules and for ways of pooling that the engine does not know.
    """
    place = "1_Pooling" if "1_Pooling/config.json" in folder else ""
    for module in folder.json_list("modules.json"):
        kind = str(module.get("type", "")).rpartition(".")[2] if isinstance(module, dict) else ""
        if kind == "Pooling":
            place = str(module.get("path") or place)
        elif kind not in ("Transformer", "Normalize"):
            raise ConversionError(
                f'modules.json has a module "{kind[:80]}"; supported are Transformer, Pooling and Normalize'
            )
    if not place:
        return None
    file = str(PurePosixPath(place) / "config.json")
    folder.path(file)
    return _mode(folder, file)


def _mode(folder: Folder, file: str) -> PoolingType:
    config = folder.json(file)
    # Either a name, or a flag for each way.
    wanted = [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else []
    wanted = wanted or [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    known = _MODES | _NAMES
    if len(wanted) != 1 or wanted[0] not in known:
        raise ConversionError(
            f"{file} pools by {', '.join(wanted)[:80] or 'nothing'}; supported are mean, cls and lasttoken"
        )
    return known[wanted[0]]
