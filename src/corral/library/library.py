"""The library: every model on this machine, from the store's manifests and the models' own files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from corral.config import GoTemplates
from corral.errors import CorralError, CorruptManifest, GgufError, ModelNotFound, NotSupported, StoreError
from corral.gguf import (
    ArraySummary,
    Float32,
    ModelFacts,
    ProjectorFacts,
    model_facts,
    parts_in_order,
    projector_facts,
    read_gguf,
    read_parts,
)
from corral.gguf.ollama import Translation, as_translated, translation
from corral.library.description import Details, ModelDetails, ModelSpec, ModelSummary
from corral.library.prompting import Prompting, prompting
from corral.library.texts import modelfile, parameter_lines
from corral.names import ModelName
from corral.store import Layer, Manifest, MediaType, Store, StoredManifest
from corral.store.manifest import CONFIG_TYPE
from corral.tiny import TINY_FILE, TINY_LICENSE, TINY_NAME

logger = logging.getLogger(__name__)

_SMALL_ARRAY = 8  # elements; longer ones are left out of `show` unless it is asked for everything
OWN_TEMPLATE = "own_template"  # in a configuration: the user wrote the template, and so it is used
_LEFT_OUT = ("general.name", "tokenizer.chat_template")


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a manifest's small blobs say."""

    config: Mapping[str, Any]
    template: str | None
    system: str
    parameters: Mapping[str, object]
    messages: tuple[tuple[str, str], ...]
    licenses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Weights:
    """What the files of a model say, translated into llama.cpp's dialect where they are in Ollama's own and can be."""

    facts: ModelFacts
    translation: Translation | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class _Projector:
    """What the file says that turns images and sounds into tokens."""

    facts: ProjectorFacts
    translation: Translation | None = None


class Library:
    """The models of one store. Methods block on files; safe to call from threads."""

    def __init__(self, store: Store, go_templates: GoTemplates = GoTemplates()) -> None:  # noqa: B008 - frozen
        """``go_templates`` says where a model's Go template is used, beside what Corral chooses by itself."""
        self.store = store
        self._go_templates = go_templates
        self._facts: dict[tuple[str, int, int], _Weights] = {}
        self._projectors: dict[tuple[str, int, int], _Projector] = {}
        self._specs: dict[ModelName, tuple[tuple[int, int], ModelSpec]] = {}

    def list(self) -> list[ModelSummary]:
        """Every model whose manifest can be read, newest first."""
        entries = sorted(self.store.entries(), key=lambda entry: (-(entry.stamp[0] // 1_000_000_000), entry.name.short))
        return [self._summary(entry) for entry in entries]

    def resolve(self, name: ModelName) -> ModelSpec:
        """All that is needed to run ``name``.

        Raises `ModelNotFound`, `CorruptManifest`, `GgufError` for weights that are no model, `StoreError` for a missing file.
        """
        known = self.known(name)
        if known is not None:
            return known
        entry = self._read(name)
        spec = self._spec(entry)
        self._specs[name] = (entry.stamp, spec)
        return spec

    def known(self, name: ModelName) -> ModelSpec | None:
        """What `resolve` found before, if it still holds; it takes two looks at the disk, so it may be asked anywhere."""
        stamp, spec = self._specs.get(name, (None, None))
        if spec is None or self.store.stamp(spec.name) != stamp or not all(path.exists() for path in spec.all_weights):
            return None
        return spec

    def show(
        self,
        name: ModelName,
        *,
        verbose: bool = False,
        system: str = "",
        options: Mapping[str, object] | None = None,
    ) -> ModelDetails:
        """All there is to say of ``name``. ``system`` and ``options`` are shown as if the model had them.

        ``verbose`` gives long arrays too, which are ``None`` otherwise. Raises as `resolve` does.
        """
        entry = self._read(name)
        spec, contents = self._spec(entry), self._contents(entry)
        said = system or contents.system
        return ModelDetails(
            license="\n".join(contents.licenses),
            modelfile=modelfile(
                entry.name.short,
                weights=spec.all_weights,
                adapters=spec.adapters,
                projectors=spec.projectors,
                template=contents.template,
                system=said,
                config=contents.config,
                parameters={**contents.parameters, **(options or {})},
                licenses=contents.licenses,
                messages=contents.messages,
            ),
            parameters=parameter_lines(contents.parameters),
            template=_used_template(spec),
            system=said,
            details=replace(spec.details, context_length=None, embedding_length=None),
            messages=contents.messages,
            model_info=_info(spec.all_weights, verbose) if spec.facts else {},
            projector_info=_info(spec.projectors[:1], verbose) if spec.projectors else {},
            tensors=read_parts(spec.all_weights, arrays=False).tensors,
            capabilities=spec.capabilities,
            modified_at=entry.modified_at,
            requires=str(contents.config.get("requires") or ""),
        )

    def repository(self, namespace: str, model: str) -> Sequence[StoredManifest]:
        """Every tag of a model, from whichever registry it came; what has no host of its own comes first."""
        tiny = ModelName.parse(TINY_NAME)
        if (namespace.lower(), model.lower()) == (tiny.namespace, tiny.model):
            self._read(tiny)
        found = [
            name
            for name in self.store.names()
            if (name.namespace.lower(), name.model.lower()) == (namespace.lower(), model.lower())
        ]
        entries = []
        for name in sorted(found, key=lambda name: (name.host != tiny.host, name.host, name.tag)):
            try:
                entries.append(self.store.read(name))
            except (ModelNotFound, CorruptManifest) as exc:
                logger.debug("%s is not served: %s", name.short, exc)
        return entries

    def copy(self, source: ModelName, destination: ModelName) -> None:
        """Give a model a second name. Raises `ModelNotFound`."""
        self._read(source)
        self.store.copy(source, destination)

    def delete(self, name: ModelName) -> None:
        """Remove a model and the files that no other model uses. Raises `ModelNotFound`."""
        self.store.delete(name)

    def has(self, name: ModelName) -> bool:
        """Whether ``name`` is on this machine; Tiny always is."""
        return name.key == ModelName.parse(TINY_NAME).key or self.store.find(name) is not None

    def configuration(self, entry: StoredManifest) -> Mapping[str, Any]:
        """The configuration of a model, as it lies in the store. Raises `CorruptManifest`, `StoreError`."""
        return _json_object(self._bytes(entry, entry.manifest.config), f'the configuration of "{entry.name.short}"')

    # -- the model in the box -----------------------------------------------------------------------------------

    def install_tiny(self) -> None:
        """Put Tiny into the store as an ordinary model, unless somebody has done it meanwhile."""
        name = ModelName.parse(TINY_NAME)
        with self.store.changing():
            if self.store.find(name) is None:
                self.store.write(name, self.add_tiny())
        logger.info("installed %s, the model that ships with Corral", TINY_NAME)

    def add_tiny(self) -> Manifest:
        """Put Tiny's files into the store, those that are not there; the manifest that names them."""
        config = configuration_of(model_facts(read_gguf(TINY_FILE, arrays=False)))
        layers = (
            self.store.add_file(TINY_FILE, MediaType.MODEL),
            self.store.add_file(TINY_LICENSE, MediaType.LICENSE),
        )
        return Manifest(self.store.add_bytes(config, CONFIG_TYPE), layers)

    def _read(self, name: ModelName) -> StoredManifest:
        """The manifest of ``name``. Tiny is installed when it is first asked for."""
        try:
            return self.store.read(name)
        except ModelNotFound:
            if name.key != ModelName.parse(TINY_NAME).key:
                raise
        self.install_tiny()
        return self.store.read(name)

    # -- from blobs to facts ------------------------------------------------------------------------------------

    def _spec(self, entry: StoredManifest) -> ModelSpec:
        contents = self._contents(entry)
        if contents.config.get("remote_model"):
            raise NotSupported(f'"{entry.name.short}" runs on a remote server, which Corral does not do')
        models = entry.manifest.of_type(MediaType.MODEL)
        if not models:
            raise CorruptManifest(f'"{entry.name.short}" has no weights that Corral can run')
        files, adapters, projectors = (
            tuple(self._blob(entry, layer) for layer in layers)
            for layers in (
                models,
                entry.manifest.of_type(MediaType.ADAPTER),
                entry.manifest.of_type(MediaType.PROJECTOR),
            )
        )
        is_gguf = contents.config.get("model_format") != "safetensors"
        weights = _weights(files, entry.name) if is_gguf and len(files) > 1 else files[-1:]
        found = self._facts_of(weights) if is_gguf else None
        facts = found.facts if found else None
        if facts is not None and facts.is_adapter:
            raise CorruptManifest(f'the weights of "{entry.name.short}" are an adapter, not a model')
        details = _details(models[-1], contents.config, facts)
        projector = self._projector_of(projectors[0]) if projectors else None
        how = prompting(
            contents.template or None,  # an empty one is none: so a model gets rid of a template that it inherits
            facts.chat_template if facts else None,
            own=contents.config.get(OWN_TEMPLATE) is True,
            wanted=self._go_templates.wanted(entry.name),
            family=details.family,
            config=contents.config,
        )
        return ModelSpec(
            name=entry.name,
            digest=entry.digest,
            weights=weights[0],
            more_weights=weights[1:],
            adapters=adapters,
            projectors=projectors,
            template=contents.template,
            prompting=how,
            system=contents.system or None,
            parameters=contents.parameters,
            messages=contents.messages,
            capabilities=_capabilities(contents, found, projector, how),
            details=details,
            facts=facts,
            size=entry.manifest.size,
            translation=found.translation if found else None,
            projector_translation=projector.translation if projector else None,
            refusal=found.refusal if found else "",
        )

    def _summary(self, entry: StoredManifest) -> ModelSummary:
        """Never fails: a model whose files are damaged is listed with what is left."""
        try:
            spec = self._spec(entry)
            details, capabilities = spec.details, spec.capabilities
        except CorralError as exc:
            logger.debug("%s is listed without its facts: %s", entry.name.short, exc)
            details, capabilities = self._details_from_config(entry)
        return ModelSummary(entry.name, entry.digest, entry.manifest.size, entry.modified_at, details, capabilities)

    def _details_from_config(self, entry: StoredManifest) -> tuple[Details, tuple[str, ...]]:
        try:
            config = _json_object(self._bytes(entry, entry.manifest.config), "the configuration")
        except CorralError:
            config = {}
        models = entry.manifest.of_type(MediaType.MODEL)
        return _details(models[-1] if models else None, config, None), _claimed(config)

    def _contents(self, entry: StoredManifest) -> _Contents:
        manifest, name = entry.manifest, entry.name.short
        templates = manifest.of_type(MediaType.TEMPLATE, MediaType.PROMPT)
        systems = manifest.of_type(MediaType.SYSTEM)
        params = manifest.of_type(MediaType.PARAMS)
        messages = manifest.of_type(MediaType.MESSAGES)
        return _Contents(
            config=self.configuration(entry),
            template=self._text(entry, templates[-1]) if templates else None,
            system=self._text(entry, systems[-1]) if systems else "",
            parameters=_json_object(self._bytes(entry, params[-1]), f'the file of parameters of "{name}"')
            if params
            else {},
            messages=_messages(self._bytes(entry, messages[-1]), name) if messages else (),
            licenses=tuple(self._text(entry, layer) for layer in manifest.of_type(MediaType.LICENSE)),
        )

    def _text(self, entry: StoredManifest, layer: Layer) -> str:
        return self._bytes(entry, layer).decode(errors="replace")

    def _bytes(self, entry: StoredManifest, layer: Layer) -> bytes:
        self._blob(entry, layer)
        return self.store.read_blob(layer.digest)

    def _blob(self, entry: StoredManifest, layer: Layer) -> Path:
        path = self.store.blob_path(layer.digest)
        if not path.is_file():
            raise StoreError(
                f'a file of "{entry.name.short}" is missing from the model store: {layer.digest}; '
                f"try: corral rm {entry.name.short}, then get it again"
            )
        return path

    def _facts_of(self, weights: tuple[Path, ...]) -> _Weights:
        status = weights[0].stat()
        key = (" ".join(path.name for path in weights), status.st_size, status.st_mtime_ns)
        facts = self._facts.get(key)
        if facts is None:
            facts = self._facts[key] = _weights_as_loaded(weights)
        return facts

    def _projector_of(self, path: Path) -> _Projector:
        status = path.stat()
        key = (path.name, status.st_size, status.st_mtime_ns)
        found = self._projectors.get(key)
        if found is None:
            found = self._projectors[key] = _projector(path)
        return found


def _weights_as_loaded(weights: tuple[Path, ...]) -> _Weights:
    file = read_parts(weights, arrays=False)
    stored = model_facts(file)
    try:
        found = translation(file)
    except NotSupported as exc:
        return _Weights(stored, refusal=str(exc))
    if found is None:
        return _Weights(stored)
    if len(weights) > 1:
        return _Weights(stored, refusal=f"files in Ollama's own form of {found.family} are not loaded from parts")
    facts = replace(model_facts(as_translated(file, found.model)), parameter_count=stored.parameter_count)
    if found.projector is not None:
        senses = projector_facts(as_translated(file, found.projector))
        facts = replace(facts, has_vision=facts.has_vision or senses.sees, has_audio=facts.has_audio or senses.hears)
    return _Weights(facts, found)


def _projector(path: Path) -> _Projector:
    """What a projector can, and what it needs before it is loaded. One that is damaged is the engine's to complain of."""
    facts = ProjectorFacts(sees=True, hears=False)
    try:
        file = read_gguf(path, arrays=False)
        facts = projector_facts(file)
        return _Projector(facts, translation(file))
    except (GgufError, NotSupported) as exc:
        logger.debug("%s is left as it is: %s", path.name, exc)
        return _Projector(facts)


def _used_template(spec: ModelSpec) -> str:
    jinja = spec.facts.chat_template if spec.facts else None
    used, other = (spec.template, jinja) if spec.prompting.use == "go" else (jinja, spec.template)
    return used or other or ""


def configuration_of(facts: ModelFacts) -> bytes:
    """The configuration of a model that is made of GGUF files."""
    return orjson.dumps(
        {
            "model_format": "gguf",
            "model_family": facts.architecture,
            "model_families": [facts.architecture],
            "model_type": facts.parameter_size,
            "file_type": facts.quantization,
            "architecture": "amd64",
            "os": "linux",
        }
    )


def _weights(files: Sequence[Path], name: ModelName) -> tuple[Path, ...]:
    """The files of the model among ``files``: all parts of it, or the last where each is a model by itself."""
    try:
        return parts_in_order(files)
    except GgufError as exc:
        raise GgufError(f'the weights of "{name.short}" cannot be used: {exc}; try: corral pull {name.short}') from exc


def _capabilities(
    contents: _Contents, weights: _Weights | None, projector: _Projector | None, how: Prompting
) -> tuple[str, ...]:
    """By the rules of Ollama's ``show``, the same wherever a model is looked at."""
    facts = weights.facts if weights else None
    claimed = _claimed(contents.config)
    if weights and weights.translation and facts:  # what could not be translated is not there, whatever is claimed
        there = {"vision": facts.has_vision, "audio": facts.has_audio}
        claimed = tuple(c for c in claimed if there.get(c, True))
    if facts and facts.ranks:  # Ollama takes them for embedding models; vectors they have none
        claimed = tuple(c for c in claimed if c not in ("embedding", "completion"))
    found = [*claimed, *(facts.capabilities if facts else ())]
    if how.use == "go":  # what the other template could do is not done
        found = [*claimed, *(c for c in found if c not in ("tools", "thinking"))]
    if projector:
        found += [name for name, has in (("vision", projector.facts.sees), ("audio", projector.facts.hears)) if has]
    found += how.capabilities
    return tuple(dict.fromkeys(found))


def _claimed(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The capabilities that a configuration names; what is no list of texts names none."""
    claimed = config.get("capabilities")
    return tuple(c for c in claimed if isinstance(c, str)) if isinstance(claimed, list) else ()


def _details(model: Layer | None, config: Mapping[str, Any], facts: ModelFacts | None) -> Details:
    families = config.get("model_families")
    quantization = str(config.get("file_type") or "")
    if quantization in ("", "unknown") and facts is not None:
        quantization = facts.quantization
    return Details(
        parent_model=model.origin if model else "",
        format=str(config.get("model_format") or ""),
        family=str(config.get("model_family") or (facts.architecture if facts else "")),
        families=tuple(map(str, families)) if isinstance(families, list) else None,
        parameter_size=str(config.get("model_type") or (facts.parameter_size if facts else "")),
        quantization_level=quantization,
        context_length=facts.context_length if facts else None,
        embedding_length=facts.embedding_length if facts else None,
    )


def _info(weights: Sequence[Path], verbose: bool) -> dict[str, object]:
    """The metadata of a GGUF as ``show`` gives it: keys in order, long arrays ``None``."""
    file = read_parts(weights, arrays=verbose)
    info: dict[str, object] = {k: v for k, v in file.metadata.items() if k not in _LEFT_OUT}
    info["general.parameter_count"] = sum(tensor.elements for tensor in file.tensors)
    return {key: _shown(info[key], verbose) for key in sorted(info)}


def _shown(value: object, verbose: bool) -> object:
    if isinstance(value, Float32):
        return value.shortest
    if isinstance(value, ArraySummary) or (isinstance(value, list) and len(value) > _SMALL_ARRAY and not verbose):
        return None
    return [_shown(item, verbose) for item in value] if isinstance(value, list) else value


def _json_object(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise CorruptManifest(f"{what} is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise CorruptManifest(f"{what} is not a JSON object")
    return document


def _messages(data: bytes, name: str) -> tuple[tuple[str, str], ...]:
    try:
        return tuple((str(m["role"]), str(m["content"])) for m in orjson.loads(data))
    except (orjson.JSONDecodeError, TypeError, KeyError) as exc:
        raise CorruptManifest(f'the messages of "{name}" are damaged: {exc}') from exc
