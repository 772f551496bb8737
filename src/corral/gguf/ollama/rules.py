"""How a family's rules are written down, and how a file's facts are asked for while they are applied. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from corral.errors import GgufError
from corral.gguf.ollama.views import Array, Kept, NewMetadata, View
from corral.gguf.reader import ArraySummary, GgufFile, TensorInfo, Value

LARGEST = 2**31 - 1
# What belongs to images, sounds and prediction of several tokens, and so to no text model of llama.cpp's.
EMBEDDED = ("v.", "mm.", "a.", "s.", "mtp.", "model.vision_tower.")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is being translated, with questions that hostile metadata answers with `GgufError`."""

    file: GgufFile
    architecture: str
    tensors: Mapping[str, TensorInfo] = field(repr=False)

    @classmethod
    def of(cls, file: GgufFile) -> Source:
        """``file`` with its tensors by name."""
        architecture = file.metadata.get("general.architecture")
        name = architecture if isinstance(architecture, str) else ""
        return cls(file, name, {tensor.name: tensor for tensor in file.tensors})

    def value(self, key: str) -> Value | None:
        """A value of the architecture's own."""
        return self.file.metadata.get(f"{self.architecture}.{key}")

    def has(self, *keys: str) -> bool:
        """Whether the architecture has any of these values."""
        return any(self.value(key) is not None for key in keys)

    def text(self, key: str) -> str:
        """A text, by its whole key; empty if there is none."""
        value = self.file.metadata.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int | None:
        """A whole number of the architecture's. Raises `GgufError` for anything else under this key."""
        value = self.value(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
            raise self.wrong(key)
        return value

    def numbers(self, key: str) -> list[int]:
        """A short list of whole numbers of the architecture's; empty if there is none. Raises `GgufError` as `number` does."""
        value = self.value(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(key)
        found = [v for v in value if isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= LARGEST]
        if len(found) != len(value):
            raise self.wrong(key)
        return found

    def width(self, tensor: str, dimension: int) -> int | None:
        """How long a tensor is in one dimension; ``None`` if it is not there or has fewer."""
        found = self.tensors.get(tensor)
        return found.shape[dimension] if found and dimension < len(found.shape) else None

    def any_tensor(self, *prefixes: str) -> bool:
        """Whether any tensor's name begins so."""
        return any(name.startswith(prefixes) for name in self.tensors)

    def any_named(self, pattern: str) -> bool:
        """Whether any tensor's name has ``pattern`` in it."""
        return any(re.search(pattern, name) for name in self.tensors)

    def wrong(self, key: str) -> GgufError:
        """What to say of a value that cannot be used."""
        return GgufError(f'{self.file.path.name} cannot be used: its value "{self.architecture}.{key}" makes no sense')


Values = Mapping[str, NewMetadata]


@dataclass(frozen=True, slots=True)
class Vision:
    """How the part for images becomes a projector. ``keys`` lead from the architecture's to those behind ``clip.``.

    ``defaults`` stand where no key led; ``values`` are worked out; ``widened`` tensors become 32-bit floats.
    """

    keys: Mapping[str, str]
    defaults: Values
    renames: tuple[tuple[str, str], ...] = ()
    values: Callable[[Source], Values] = lambda source: {}
    tensors: tuple[str, ...] = ("v.", "mm.")
    widened: tuple[str, ...] = ("v.patch_embd.weight",)


@dataclass(frozen=True, slots=True)
class Family:
    """One family in Ollama's dialect.

    ``keys`` get new names, both without the architecture; ``tensors`` are patterns with what takes their place; ``values`` are by
    whole key. ``refusal`` says why a file cannot be translated; where there is no ``vision``, ``lacks`` why not, if files have
    some. Tensors whose names begin with one of ``embedded`` are not the text model's.
    """

    architecture: str
    is_dialect: Callable[[Source], bool]
    becomes: Callable[[Source], str] | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    tensors: tuple[tuple[str, str], ...] = ()
    values: Callable[[Source], Values] = lambda source: {}
    shapes: Callable[[Source], Mapping[str, tuple[int, ...]]] = lambda source: {}
    refusal: Callable[[Source], str] = lambda source: ""
    vision: Vision | None = None
    lacks: str = ""
    name: str = ""
    embedded: tuple[str, ...] = EMBEDDED


def renamed(name: str, renames: Iterable[tuple[str, str]]) -> str:
    """``name`` after the first of ``renames`` that it has.

    >>> renamed("blk.0.attn_out.bias", ((r"\\.attn_out\\.", ".attn_output."),))
    'blk.0.attn_output.bias'
    """
    for pattern, new in renames:
        changed = re.sub(pattern, new, name, count=1)
        if changed != name:
            return changed
    return name


def model_view(source: Source, family: Family, *, keep_vision: bool) -> View:
    """The text model in ``source``. Raises `GgufError` where two tensors or keys would get one name."""
    becomes = family.becomes(source) if family.becomes else source.architecture
    own, left_out = source.architecture + ".", ("" if keep_vision else "vision.", "audio.", *family.left_out)
    keys: dict[str, str] = {}
    for key in source.file.metadata:
        suffix = key.removeprefix(own) if key.startswith(own) else None
        if suffix is None:
            keys[key] = key
        elif not suffix.startswith(tuple(prefix for prefix in left_out if prefix)):
            keys[key] = f"{becomes}.{family.keys.get(suffix, suffix)}"
    values: dict[str, NewMetadata] = {"general.architecture": becomes} if becomes != source.architecture else {}
    values |= family.values(source)
    shapes = family.shapes(source)
    tensors = tuple(
        Kept(tensor, renamed(name, family.tensors), shapes.get(name, tensor.shape))
        for name, tensor in source.tensors.items()
        if not name.startswith(family.embedded)
    )
    return _sound(source, View(_without_doubles(keys), values, tensors))


def projector_view(source: Source, vision: Vision) -> View | None:
    """The part of ``source`` that turns images into tokens; ``None`` if it has none."""
    if not source.any_tensor("v."):
        return None
    own = source.architecture + "."
    keys = {
        own + old: "clip." + new for old, new in vision.keys.items() if source.file.metadata.get(own + old) is not None
    }
    general = {key: key for key in ("general.alignment", "general.file_type") if key in source.file.metadata}
    values: dict[str, NewMetadata] = {"general.architecture": "clip", "general.type": "mmproj"}
    values |= {f"clip.{key}": value for key, value in vision.defaults.items() if f"clip.{key}" not in keys.values()}
    values |= {f"clip.{key}": value for key, value in vision.values(source).items()}
    tensors = []
    for name, tensor in source.tensors.items():
        if not name.startswith(vision.tensors):
            continue
        new = renamed(name, vision.renames)
        tensors.append(Kept(tensor, new, tensor.shape, new in vision.widened and tensor.type_name == "F16"))
    return _sound(source, View(general | _without_doubles(keys), values, tuple(tensors)))


def truncated(source: Source, count: int) -> dict[str, NewMetadata]:
    """The vocabulary without what comes after its first ``count`` tokens."""
    found: dict[str, NewMetadata] = {}
    for key, kind in (("tokens", 8), ("scores", 6), ("token_type", 5)):
        value = source.file.metadata.get(f"tokenizer.ggml.{key}")
        if isinstance(value, ArraySummary) and value.count > count:
            found[f"tokenizer.ggml.{key}"] = Array(kind, ArraySummary(count, value.first))
        elif isinstance(value, list) and len(value) > count:
            found[f"tokenizer.ggml.{key}"] = Array(kind, list(value[:count]))  # type: ignore[arg-type]
    return found


def vocabulary_size(source: Source) -> int:
    """How many tokens the tokenizer has."""
    tokens = source.file.metadata.get("tokenizer.ggml.tokens")
    return tokens.count if isinstance(tokens, ArraySummary) else len(tokens) if isinstance(tokens, list) else 0


def _without_doubles(keys: dict[str, str]) -> dict[str, str]:
    """Of two keys that would become one, what bore the name already stays."""
    already = {new for old, new in keys.items() if old == new}
    chosen = {new: old for old, new in keys.items() if old == new or new not in already}
    return {old: new for new, old in chosen.items()}


def _sound(source: Source, view: View) -> View:
    names = [kept.name for kept in view.tensors]
    if len(set(names)) != len(names):
        raise GgufError(f"{source.file.path.name} cannot be used: two of its tensors would get one name")
    return view
