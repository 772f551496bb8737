"""All settings, in one place, as one frozen `Settings`.

A setting is looked for in this order: ``CORRAL_<NAME>`` in the environment, the name Ollama gives it
(``OLLAMA_…``), the file ``config.toml`` in Corral's configuration folder, its default. A name in the file that is no setting is
refused, and so is a value that the setting cannot have: nobody should wonder why a setting does nothing.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from corral.durations import FOREVER_S, parse_duration
from corral.errors import ConfigError, InvalidName, InvalidRequest
from corral.names import ModelName

DEFAULT_PORT = 11434


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens or is looked for."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """Where a client on this machine connects to; a wildcard address is reached over loopback."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        """The base URL for a client."""
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def _address(text: str) -> Address:
    rest = text.strip().removeprefix("http://").rstrip("/")
    if "://" in rest or "/" in rest:
        raise ValueError("expected host:port, for example 127.0.0.1:11434")
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port = tail.removeprefix(":")
    elif rest.count(":") > 1:
        host, port = rest, ""
    else:
        host, _, port = rest.partition(":")
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f'"{port}" is not a port')
    return Address(host or "0.0.0.0", int(port) if port else DEFAULT_PORT)  # noqa: S104


def home() -> Path:
    """The folder of this user. Raises `ConfigError` where there is none."""
    try:
        return Path.home()
    except RuntimeError as exc:
        raise ConfigError("this user has no home folder, where models and settings are kept; set HOME") from exc


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _switch(text: str) -> bool:
    value = text.strip().lower()
    if value in {"1", "t", "true", "yes", "on"}:
        return True
    if value in {"0", "f", "false", "no", "off"}:
        return False
    raise ValueError("expected true or false")


def _duration(text: str) -> float:
    """Seconds; a bare number is seconds, anything negative is for ever."""
    try:
        seconds = float(text) if text.strip().lstrip("+-").isdigit() else parse_duration(text.strip())
    except InvalidRequest as exc:
        raise ValueError(str(exc)) from exc
    return FOREVER_S if seconds < 0 else seconds


def _timeout(text: str) -> float:
    """As a duration, but none at all means no limit."""
    return _duration(text) or FOREVER_S


def _count(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < lowest:
            raise ValueError(f"expected {lowest} or more")
        return number

    return parse


def _size(text: str) -> int:
    """Bytes; with a unit, thousands or 1024s of them.

    >>> _size("32MiB"), _size("1.5 GB"), _size("4096")
    (33554432, 1500000000, 4096)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError("expected bytes, for example 33554432 or 32MiB")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit.lower() or " "))


def _models(text: str) -> tuple[ModelName, ...]:
    try:
        return tuple(ModelName.parse(name.strip()) for name in text.split(",") if name.strip())
    except InvalidName as exc:
        raise ValueError(str(exc)) from exc


def _origins(text: str) -> tuple[str, ...]:
    found = tuple(origin.strip() for origin in text.split(",") if origin.strip())
    for origin in found:
        if origin != "*" and "://" not in origin:
            raise ValueError(f'"{origin}" is not an origin; try: http://{origin}')
    return found


@dataclass(frozen=True, slots=True)
class GoTemplates:
    """Whether Go templates are used: always, never, or ``None`` where Corral chooses. Models may have a word of their own."""

    default: bool | None = None
    models: tuple[tuple[ModelName, bool | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> GoTemplates:
        """As a setting says it: a value for all models, values for single ones, or both.

        >>> GoTemplates.parse("auto, qwen3:8b=off").wanted(ModelName.parse("qwen3:8b"))
        False
        """
        default, models = None, []
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = item.rpartition("=")
            wanted = None if value.strip().lower() == "auto" else _switch(value)
            if equals:
                models.append((ModelName.parse(name.strip()), wanted))
            else:
                default = wanted
        return cls(default, tuple(models))

    def wanted(self, name: ModelName) -> bool | None:
        """What is wanted for a model."""
        return next((wanted for model, wanted in self.models if model.key == name.key), self.default)


def _go_templates(text: str) -> GoTemplates:
    try:
        return GoTemplates.parse(text)
    except (ValueError, InvalidName) as exc:
        raise ValueError(f"{exc}; expected auto, 1, 0, or such a value for a model: auto,qwen3:8b=0") from exc


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        value = text.strip().lower()
        if value not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return value

    return parse


def _fetching(text: str) -> str:
    try:
        return "internet" if _switch(text) else "off"
    except ValueError:
        return _choice("off", "internet", "networks")(text)


def _mirrors(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """``host=URL,URL;host=URL``: for each host of a registry, lower-cased, its mirrors in order."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        host, separator, addresses = part.partition("=")
        mirrors = tuple(filter(None, (address.strip() for address in addresses.split(","))))
        if not separator or not host.strip() or not mirrors:
            raise ValueError(f'"{part}" is not host=URL,URL; try: registry.ollama.ai=https://mirror.example')
        for mirror in mirrors:
            parts = urlsplit(mirror)
            if parts.username is not None:
                raise ValueError(f"a mirror's address has no login in it; try: corral login {parts.hostname}")
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError(f'"{mirror}" is not the address of a mirror; try: https://mirror.example')
        found.append((host.strip().lower(), mirrors))
    return tuple(found)


def _setting(default: Any, parse: Callable[[str], Any], about: str, ollama: str | None = None) -> Any:
    return field(default=default, metadata={"parse": parse, "about": about, "ollama": ollama})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of Corral. Durations are seconds, sizes bytes; ``inf`` is for ever."""

    host: Address = _setting(
        Address("127.0.0.1", DEFAULT_PORT),
        _address,
        "Address to listen on, and where clients look.",
        "OLLAMA_HOST",
    )
    models: Path = _setting(
        home() / ".ollama" / "models",
        _path,
        "Folder of the model store, in Ollama's layout.",
        "OLLAMA_MODELS",
    )
    data: Path = _setting(
        Path(platformdirs.user_data_dir("corral", appauthor=False)),
        _path,
        "Folder for Corral's own files: engine logs, chat history.",
    )
    keep_alive: float = _setting(
        300.0, _duration, "How long an idle model stays loaded; negative is for ever.", "OLLAMA_KEEP_ALIVE"
    )
    load_timeout: float = _setting(
        300.0, _timeout, "How long a load may go without progress; 0 is for ever.", "OLLAMA_LOAD_TIMEOUT"
    )
    context_length: int = _setting(
        0, _count(0), "Context in tokens when a request asks for none; 0 chooses.", "OLLAMA_CONTEXT_LENGTH"
    )
    num_parallel: int = _setting(
        0, _count(0), "Sequences a model generates at a time; 0 chooses by memory.", "OLLAMA_NUM_PARALLEL"
    )
    max_loaded_models: int = _setting(
        0, _count(0), "Models in memory at a time; 0 is as many as fit.", "OLLAMA_MAX_LOADED_MODELS"
    )
    sched_spread: bool = _setting(
        False, _switch, "Lay a model over all GPUs even where one has room for it.", "OLLAMA_SCHED_SPREAD"
    )
    gpu_overhead: int = _setting(
        0, _size, "Memory of each GPU that is left to other programs, for example 1GB.", "OLLAMA_GPU_OVERHEAD"
    )
    memory_limit: int = _setting(
        0, _size, "Main memory that all models together may take, for example 16GB; 0 is what is free."
    )
    cpu_fallback: bool = _setting(
        True, _switch, "Let a model for which a GPU has no room run on the processor; otherwise it is refused."
    )
    preload: tuple[ModelName, ...] = _setting((), _models, "Models to load when the server starts, comma-separated.")
    pin: tuple[ModelName, ...] = _setting(
        (), _models, "Models to load when the server starts and never to unload, comma-separated."
    )
    hang_timeout: float = _setting(
        60.0, _timeout, "How long an engine with work may give no sign of life before it is ended; 0 is for ever."
    )
    drain_timeout: float = _setting(
        5.0, _duration, "How long answers may go on when the server is told to end; then they are ended too."
    )
    max_queue: int = _setting(512, _count(1), "Requests that may wait before more are refused.", "OLLAMA_MAX_QUEUE")
    model_queue: int = _setting(
        0,
        _count(0),
        "Requests that may wait for one loaded model before more are refused; 0 is no limit but max_queue.",
    )
    origins: tuple[str, ...] = _setting(
        (), _origins, "Web origins allowed besides local ones, comma-separated; * is all.", "OLLAMA_ORIGINS"
    )
    flash_attention: str = _setting(
        "auto",
        _choice("auto", "on", "off", "1", "0", "true", "false"),
        "Flash attention.",
        "OLLAMA_FLASH_ATTENTION",
    )
    kv_cache_type: str = _setting(
        "f16",
        _choice("f32", "f16", "bf16", "q8_0", "q4_0"),
        "Number format of the KV cache.",
        "OLLAMA_KV_CACHE_TYPE",
    )
    kv_cache_fallback: str = _setting(
        "off",
        _choice("off", "q8_0", "q4_0"),
        "Number format that the KV cache gets when memory runs out during a load; off keeps the first.",
    )
    go_template: GoTemplates = _setting(
        GoTemplates(),
        _go_templates,
        "Use of Go templates where a file has a template too: 1 always, 0 never, auto chooses; `auto,mine=1` for one model.",
        "OLLAMA_GO_TEMPLATE",
    )
    no_prune: bool = _setting(
        False, _switch, "Keep files in the store that no model uses when the server starts.", "OLLAMA_NOPRUNE"
    )
    no_history: bool = _setting(False, _switch, "Do not keep the history of chats.", "OLLAMA_NOHISTORY")
    responses: str = _setting(
        "memory",
        _choice("memory", "disk", "off"),
        "Where responses are kept for `previous_response_id`: in memory, on disk, which survives a restart, or nowhere.",
    )
    responses_count: int = _setting(1000, _count(1), "Responses that are kept; the longest unused go first.")
    responses_bytes: int = _setting(64 << 20, _size, "Bytes that kept responses may have, prompts included.")
    responses_ttl: float = _setting(
        30 * 86400.0, _duration, "How long a response is kept after it was made; negative is for ever."
    )
    file_bytes: int = _setting(200 << 20, _size, "Bytes that a file sent to `/v1/files` or `/v1/audio` may have.")
    files_bytes: int = _setting(10 << 30, _size, "Bytes that all files of `/v1/files` may have together.")
    batch_parallel: int = _setting(4, _count(1), "Requests of batches that run at a time.")
    batch_requests: int = _setting(50_000, _count(1), "Requests that one batch may have.")
    registry: str = _setting(
        "auto",
        _choice("auto", "on", "off"),
        "Let other machines pull the models that are here; auto does on loopback only.",
    )
    registry_cache: bool = _setting(
        False,
        _switch,
        "As a registry for other machines, fetch what is not here from where it comes from, once for all of them.",
    )
    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = _setting(
        (),
        _mirrors,
        "Mirrors of registries, tried in order before them: host=URL,URL;host=URL (in the file a table of lists).",
    )
    ca_file: Path | None = _setting(
        None, _path, "Certificates of authorities to trust besides the system's, as one PEM file."
    )
    private_registries: bool = _setting(
        False,
        _switch,
        "Let users on other machines pull from and push to registries in private networks and on this machine.",
    )
    offline: bool = _setting(False, _switch, "Connect to no other machine: no pull, no push.")
    image_max_bytes: int = _setting(32 << 20, _size, "Largest image that a request may bring, in bytes, or as 32MiB.")
    image_max_pixels: int = _setting(
        64_000_000, _count(1), "Most pixels that an image may have, width times height, in the file as it was sent."
    )
    audio_max_bytes: int = _setting(64 << 20, _size, "Largest sound that a request may bring, in bytes, or as 64MiB.")
    audio_max_length: float = _setting(3600.0, _timeout, "Longest sound that a request may bring; 0 is no limit.")
    fetch_images: str = _setting(
        "off",
        _fetching,
        "Fetch images that a request only links to: off; internet, from public addresses; networks, from private ones too.",
    )
    idle_exit: float = _setting(
        FOREVER_S, _duration, "End the server after this long without a request and a loaded model."
    )
    log_level: str = _setting("info", _choice("debug", "info", "warning", "error"), "How much the server logs.")


def load_settings(environment: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """The settings in force. ``overrides`` are values already parsed (from flags), and win.

    Raises `ConfigError` that names the setting, where it came from, and what it may be.
    """
    known = {f.name: f for f in fields(Settings)}
    values: dict[str, Any] = {}
    for name, text, origin in (*_from_file(environment, known), *_from_environment(environment, known)):
        try:
            values[name] = known[name].metadata["parse"](text)
        except ValueError as exc:
            raise ConfigError(f'{origin}: "{text}" is not a value for {name}: {exc}') from exc
    return Settings(**{**values, **{name: value for name, value in overrides.items() if value is not None}})


def config_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the configuration file is looked for."""
    explicit = environment.get("CORRAL_CONFIG", "").strip()
    return Path(explicit) if explicit else Path(platformdirs.user_config_dir("corral", appauthor=False), "config.toml")


def _from_file(environment: Mapping[str, str], known: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    path = config_file(environment)
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"cannot read {path}: {exc}") from exc
    for name in content:
        if name not in known:
            raise ConfigError(f'{path}: there is no setting "{name}"; there are: {", ".join(known)}')
    return [(name, _as_text(value), str(path)) for name, value in content.items()]


def _as_text(value: object) -> str:
    """A value of the file as the environment would have it."""
    if isinstance(value, dict):
        return ";".join(f"{name}={_as_text(inner)}" for name, inner in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _from_environment(environment: Mapping[str, str], known: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    found = []
    for name, setting in known.items():
        for variable in (setting.metadata["ollama"], f"CORRAL_{name.upper()}"):
            text = environment.get(variable, "").strip().strip("\"'") if variable else ""
            if text:
                found.append((name, text, variable))
    return found
