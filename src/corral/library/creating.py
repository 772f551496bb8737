"""Making models: from a model that is here or at a registry, or from files; with a template, parameters and the like.

GGUF files become blobs of the model as they are, unless they are to be quantised; safetensors are converted. The manifest is
written last, so that a creation that fails changes no model.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from anyio import to_thread

from corral.convert import Progress as Conversion
from corral.convert import convert_adapter, convert_model
from corral.errors import CorralError, InvalidDigest, InvalidRequest, NotSupported
from corral.gguf import model_facts, read_parts
from corral.gguf.mixtures import mixture
from corral.gguf.quantise import quantise
from corral.library.ingredients import check_adapter, is_safetensors, sort_out
from corral.library.library import OWN_TEMPLATE, Library, configuration_of
from corral.library.wanted import Checked, WantedModel, check
from corral.names import Digest, ModelName
from corral.registry import Progress, Transfers, Wish
from corral.store import HashedFile, Layer, Manifest, MediaType, Store
from corral.store.manifest import CONFIG_TYPE

_INHERITED = (
    "renderer",
    "parser",
    "requires",
    "capabilities",
    "context_length",
    "embedding_length",
    "base_name",
    OWN_TEMPLATE,
)

_NO_DIGEST = "0000000000000000000"  # by which a quantisation goes in Ollama


@dataclass(frozen=True, slots=True)
class _Draft:
    """A model on its way: its layers so far, those of them that are ``new``, what is in its configuration and its parameters.

    ``made`` are files that were written for it and are to be blobs.
    """

    layers: tuple[Layer, ...]
    weights: tuple[Path, ...]
    config: Mapping[str, Any]
    parameters: Mapping[str, object]
    new: frozenset[Digest] = frozenset()
    made: tuple[HashedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class _Text:
    """A small layer that is still to be stored."""

    media_type: MediaType
    data: bytes


class Creation:
    """Makes one model in ``library``. With ``prune`` the files go that its predecessor had and nobody uses any more."""

    def __init__(
        self,
        library: Library,
        transfers: Transfers,
        wanted: WantedModel,
        *,
        wish: Wish | None = None,
        prune: bool = True,
    ) -> None:
        self._library = library
        self._store = library.store
        self._transfers = transfers
        self._wanted = wanted
        self._wish = wish or Wish()
        self._prune = prune

    async def run(self) -> AsyncGenerator[Progress, None]:
        """Make it, step by step.

        Raises `InvalidRequest`, `NotSupported`, `RegistryError`, `ConversionError`, `QuantizationError`, `StoreError`; then the
        model is what it was.
        """
        checked = check(self._wanted)
        with ExitStack() as stack:
            workplace = _Workplace(self._store, stack)
            draft: _Draft | None = None
            for stage in (self._begin, self._adapt, self._quantise):
                async with aclosing(stage(draft, workplace)) as steps:
                    async for step in steps:
                        if isinstance(step, _Draft):
                            draft = step
                        else:
                            yield step
            assert draft is not None, "the first stage gives one"
            for name in checked.without_effect:
                yield Progress(f"parameter {name} has no effect and is left out")
            for status in await to_thread.run_sync(self._write, draft, checked):
                yield Progress(status)
        yield Progress("success")

    # -- stages: each ends with the draft, if it changes it --------------------------------------------------------

    async def _begin(self, _: _Draft | None, workplace: _Workplace) -> AsyncGenerator[Progress | _Draft, None]:
        if self._wanted.origin is not None:
            async with aclosing(self._pull_missing(self._wanted.origin)) as steps:
                async for step in steps:
                    yield step
            yield await to_thread.run_sync(self._inherit, self._wanted.origin)
            return
        files = await to_thread.run_sync(self._blobs, self._wanted.files or {})
        paths = {name: path for name, (_, path) in files.items()}
        if is_safetensors(paths):
            target = workplace.path("model.gguf")
            async with aclosing(_progress(convert_model(paths, target, name=self._wanted.name.model))) as steps:
                async for step in steps:
                    yield step
            yield await to_thread.run_sync(self._made, None, MediaType.MODEL, target)
            return
        yield Progress("parsing GGUF")
        yield await to_thread.run_sync(self._from_files, files)
        yield Progress("verifying conversion")

    async def _adapt(self, draft: _Draft | None, workplace: _Workplace) -> AsyncGenerator[Progress | _Draft, None]:
        assert draft is not None
        if not self._wanted.adapters:
            return
        if draft.config.get("model_format") == "safetensors":
            raise NotSupported("an adapter needs a model in GGUF, and this one is in safetensors")
        files = await to_thread.run_sync(self._blobs, self._wanted.adapters)
        paths = {name: path for name, (_, path) in files.items()}
        if is_safetensors(paths):
            target = workplace.path("adapter.gguf")
            async with aclosing(_progress(convert_adapter(paths, draft.weights[0], target))) as steps:
                async for step in steps:
                    yield step
            await to_thread.run_sync(check_adapter, next(iter(paths)), target, draft.weights)
            yield await to_thread.run_sync(self._made, draft, MediaType.ADAPTER, target)
            return
        yield Progress("parsing GGUF")
        yield await to_thread.run_sync(self._with_adapter, draft, files)
        yield Progress("verifying conversion")

    async def _quantise(self, draft: _Draft | None, workplace: _Workplace) -> AsyncGenerator[Progress | _Draft, None]:
        assert draft is not None
        if not self._wanted.quantize:
            return
        if draft.config.get("model_format") == "safetensors":
            raise NotSupported("a model in safetensors cannot be quantised; make it from its files")
        target_type = mixture(self._wanted.quantize).name
        source = await to_thread.run_sync(lambda: model_facts(read_parts(draft.weights, arrays=False)).quantization)
        if source == target_type:
            return
        target = workplace.path("quantised.gguf")
        again = self._wanted.allow_requantize
        async with aclosing(quantise(draft.weights, target, target_type, allow_requantize=again)) as steps:
            async for step in steps:
                status = f"quantizing {source} model to {target_type}"
                yield Progress(status, _NO_DIGEST, step.total, step.completed)
        yield Progress("verifying conversion")
        yield await to_thread.run_sync(self._made, draft, MediaType.MODEL, target)

    # -- where it comes from ------------------------------------------------------------------------------------

    async def _pull_missing(self, name: ModelName) -> AsyncGenerator[Progress, None]:
        if await to_thread.run_sync(self._library.has, name):
            return
        async with aclosing(self._transfers.pull(name, self._wish)) as steps:
            async for step in steps:
                if step.status != "success":  # the whole has only one
                    yield step

    def _inherit(self, name: ModelName) -> _Draft:
        with self._store.changing():  # so that all of it is of one model
            spec = self._library.resolve(name)
            stored = self._store.read(name)
            config = self._library.configuration(stored)
        layers = tuple(replace(layer, origin=stored.name.short) for layer in stored.manifest.layers)
        return _Draft(layers, spec.all_weights, config, spec.parameters)

    def _from_files(self, files: Mapping[str, tuple[Digest, Path]]) -> _Draft:
        found = sort_out({name: path for name, (_, path) in files.items()})
        digests = {path: digest for digest, path in files.values()}
        layers = tuple(
            Layer(media_type, digests[path], path.stat().st_size)
            for media_type, paths in ((MediaType.MODEL, found.weights), (MediaType.PROJECTOR, found.projectors))
            for path in paths
        )
        return _Draft(layers, found.weights, {}, {}, self._unused(layers))

    def _with_adapter(self, draft: _Draft, files: Mapping[str, tuple[Digest, Path]]) -> _Draft:
        ((name, (digest, path)),) = files.items()
        check_adapter(name, path, draft.weights)
        layer = Layer(MediaType.ADAPTER, digest, path.stat().st_size)
        return replace(draft, layers=(*draft.layers, layer), new=draft.new | self._unused((layer,)))

    def _made(self, draft: _Draft | None, media_type: MediaType, target: Path) -> _Draft:
        """``draft`` with a file that was written for it: new weights take the place of those it had."""
        file = HashedFile.of(target, lambda _: None)
        layer = Layer(media_type, file.digest, file.size)
        new = frozenset() if self._store.has_blob(file.digest) else frozenset({file.digest})
        if draft is None:
            return _Draft((layer,), (target,), {}, {}, new, (file,))
        draft = replace(draft, new=draft.new | new, made=(*draft.made, file))
        if media_type is not MediaType.MODEL:
            return replace(draft, layers=(*draft.layers, layer))
        others = [other for other in draft.layers if other.media_type != MediaType.MODEL]
        return replace(draft, layers=(layer, *others), weights=(target,))

    def _blobs(self, files: Mapping[str, str]) -> dict[str, tuple[Digest, Path]]:
        found = {}
        for name, text in files.items():
            try:
                digest = Digest.parse(text)
            except InvalidDigest as exc:
                raise CorralError(str(exc)) from exc  # no InvalidRequest: Ollama answers 500 here
            if not self._store.has_blob(digest):
                raise InvalidRequest(f'the file "{name}" is not here; bring it first: POST /api/blobs/{digest}')
            found[name] = (digest, self._store.blob_path(digest))
        return found

    def _unused(self, layers: tuple[Layer, ...]) -> frozenset[Digest]:
        """Those of ``layers`` that no model has yet."""
        used = {layer.digest for entry in self._store.entries() for layer in entry.manifest.blobs}
        return frozenset(layer.digest for layer in layers) - used

    # -- what it becomes ----------------------------------------------------------------------------------------

    def _write(self, draft: _Draft, checked: Checked) -> list[str]:
        """Store what is new and make the name mean it; the steps that were taken."""
        texts = self._texts({**draft.parameters, **checked.parameters})
        replaced = {text.media_type for text in texts if text.media_type is not MediaType.LICENSE} | {MediaType.PARAMS}
        if MediaType.TEMPLATE in replaced:
            replaced.add(MediaType.PROMPT)
        layers = [layer for layer in draft.layers if layer.media_type not in replaced]
        statuses = [_status(layer, is_new=layer.digest in draft.new) for layer in layers]
        config = self._configuration(draft, checked)
        with self._store.changing():
            for file in draft.made:
                if any(
                    layer.digest == file.digest for layer in layers
                ):  # what was quantised afterwards is no part of it
                    self._store.place(file)
            for text in texts:
                is_new = not self._store.has_blob(Digest.of(text.data))
                layers.append(self._store.add_bytes(text.data, text.media_type))
                statuses.append(_status(layers[-1], is_new=is_new))
            manifest = Manifest(self._store.add_bytes(config, CONFIG_TYPE), tuple(layers))
            before = self._store.digests_of(self._wanted.name)
            self._store.write(self._wanted.name, manifest)
            if self._prune:
                self._store.remove_unused(before - {layer.digest for layer in manifest.blobs})
        return [*statuses, "writing manifest"]

    def _texts(self, parameters: Mapping[str, object]) -> list[_Text]:
        """The small layers that are written anew, in their order."""
        wanted = self._wanted
        texts = [
            *([_Text(MediaType.TEMPLATE, wanted.template.encode())] if wanted.template else ()),
            *([_Text(MediaType.SYSTEM, wanted.system.encode())] if wanted.system else ()),
            *(_Text(MediaType.LICENSE, text.encode()) for text in wanted.licenses),
        ]
        if parameters:
            texts.append(_Text(MediaType.PARAMS, _json(parameters)))
        if wanted.messages:
            messages = [{"role": role, "content": content} for role, content in wanted.messages]
            texts.append(_Text(MediaType.MESSAGES, _json(messages)))
        return texts

    def _configuration(self, draft: _Draft, checked: Checked) -> bytes:
        if draft.config.get("model_format") == "safetensors":
            config = dict(draft.config)
        else:
            config = orjson.loads(configuration_of(model_facts(read_parts(draft.weights, arrays=False))))
            if any(layer.media_type == MediaType.PROJECTOR for layer in draft.layers):
                config["model_families"].append("clip")
        inherited = {name: draft.config[name] for name in _INHERITED if draft.config.get(name)}
        if self._wanted.template:
            inherited[OWN_TEMPLATE] = True
        config.update(inherited)
        config.update(checked.config)
        claimed = inherited.get("capabilities")
        if isinstance(claimed, list) and "capabilities" in checked.config:
            config["capabilities"] = list(dict.fromkeys([*claimed, *self._wanted.info["capabilities"]]))
        return orjson.dumps(config)


class _Workplace:
    """A folder for files on their way, there from when the first is wanted until ``stack`` is unwound."""

    def __init__(self, store: Store, stack: ExitStack) -> None:
        self._store = store
        self._stack = stack
        self._folder: Path | None = None

    def path(self, name: str) -> Path:
        """Where a file may be written. Raises `StoreError`."""
        if self._folder is None:
            self._folder = self._stack.enter_context(self._store.workplace())
        return self._folder / name


async def _progress(steps: AsyncGenerator[Conversion, None]) -> AsyncGenerator[Progress, None]:
    async with aclosing(steps):
        async for step in steps:
            yield Progress(step.status, step.status, step.total, step.completed)


def _status(layer: Layer, *, is_new: bool) -> str:
    return f"{'creating new' if is_new else 'using existing'} layer {layer.digest}"


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) + b"\n"
