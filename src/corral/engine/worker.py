"""The engine process: llama.cpp's server, with one model, for as long as its parent lives.

``python -m corral.engine.worker`` reads one line of JSON from stdin (an `EngineConfig`, the key that requests must
carry, and more of `corral.engine.process`), loads the model, prints one line of JSON with the port it serves on 127.0.0.1, and
from then on only waits: when stdin ends, so does the process, however its parent died. llama.cpp logs to stderr.

Of what the server runs only this module and the probe import native code; they are never imported by it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
# How often a thread looks before it sleeps, where GNU OpenMP makes the threads. By its default of 300,000 two busy engines take
# the cores from each other: beside another one, Tiny made 40 tokens per second, and 800 like this; alone both make the same.
SPINS = "10000"
_WARNINGS, _ACCOUNTS = 2, 4  # llama.cpp's levels of logging; the second tells the size of every buffer


def main() -> None:
    """Run until the parent is gone."""
    parent = os.getppid()
    _die_with_parent(parent)
    _be_the_first_to_go()
    request = json.loads(sys.stdin.buffer.readline() or b"{}")
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()

    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ.setdefault(
        "GGML_NO_BACKTRACE", "1"
    )  # a debugger's pages would push the reason out of the end of the log
    import xllamacpp

    config = request["config"]
    try:
        with _named_as_parts([config["weights"], *config["more_weights"]]) as weights:
            server = xllamacpp.Server(_params(xllamacpp, request, {**config, "weights": weights}))
    except RuntimeError as exc:  # llama.cpp's log above it says why
        _write_the_log_out()
        print(exc, file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)  # leaving in order would abort: native threads are still there
    _log_less()
    print(json.dumps({"port": int(server.listening_address.rpartition(":")[2])}), flush=True)  # noqa: T201
    threading.Event().wait()


@contextmanager
def _named_as_parts(files: list[str]) -> Iterator[str]:
    """The path of the first of ``files``, which go by the names by which llama.cpp finds the others, while it loads."""
    if len(files) == 1:
        yield files[0]
        return
    with tempfile.TemporaryDirectory(prefix="corral-parts-") as folder:
        names = [Path(folder, f"model-{n:05}-of-{len(files):05}.gguf") for n in range(1, len(files) + 1)]
        for name, file in zip(names, files, strict=True):
            try:
                name.symlink_to(Path(file).absolute())
            except OSError:  # not everybody may, on Windows
                name.hardlink_to(file)
        yield str(names[0])


def _die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process with its parent: loading holds the interpreter, so a thread is not enough."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def _be_the_first_to_go() -> None:
    """When memory runs out, the kernel is to end an engine and not its server, which would take every engine with it."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _log_less() -> None:
    """From now on warnings only: a load's own account of its memory is wanted, a line for each step of each request is not."""
    with suppress(OSError, AttributeError):  # without this the log is longer
        _llama_cpp()._Z30common_log_set_verbosity_tholdi(_WARNINGS)


def _write_the_log_out() -> None:
    """The log is written by a thread, which may lag behind with the reason of a failure."""
    with suppress(OSError, AttributeError):  # without this the reason may be missing
        library = _llama_cpp()
        library._Z15common_log_mainv.restype = ctypes.c_void_p
        library._Z16common_log_flushP10common_log(ctypes.c_void_p(library._Z15common_log_mainv()))


def _llama_cpp() -> ctypes.CDLL:
    """llama.cpp's own functions, of which the bindings lack some. Raises `OSError`."""
    import xllamacpp

    return ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"), "")))


def _exit_at_end_of_input() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(0)


def _has_gpu(x: Any) -> bool:
    return any("CPU" not in str(device["type"]) for device in x.get_device_info())


def _params(x: Any, request: dict[str, Any], config: dict[str, Any]) -> Any:
    """llama.cpp's parameters for ``config``. Its own web page, tools and file endpoints stay off."""
    p = x.CommonParams()
    p.model.path = config["weights"]
    p.port = 0
    p.api_keys = [request["key"]]
    p.ui = False
    p.warmup = False
    p.verbosity = _ACCOUNTS
    p.endpoint_slots = True
    p.n_parallel = config["slots"]
    if config["embedding"]:
        p.n_ctx = config["context"] * config["slots"]
    else:
        # One pool for all sequences, of which none may have more than its context. What idle ones hold is given up when it is
        # needed; moving it to main memory at each request would cost a copy of every idle sequence.
        p.n_ctx = config["pool"]
        p.kv_unified = True
        p.kv_unified_per_slot = config["rounded_context"]
        p.cache_idle_slots = False
        p.slot_save_path = request["states"] + os.sep
    p.ctx_shift = False
    p.cache_ram_mib = config["prompt_cache_mib"]
    p.cache_type_k = p.cache_type_v = getattr(x.ggml_type, "GGML_TYPE_" + config["kv_cache_type"].upper())
    p.flash_attn_type = getattr(x.llama_flash_attn_type, _FLASH_ATTENTION[config["flash_attention"]])
    p.fit_params = False
    # One thread per stream waits in the server, and each answers one request at a time.
    p.n_threads_http = max(16, 4 * config["slots"])
    if config["embedding"]:
        p.embedding = True
    if config["rerank"]:
        p.pooling_type = x.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    if config["batch"] is not None:
        p.n_batch = p.n_ubatch = config["batch"]
    elif not config["embedding"] and not _has_gpu(x):
        p.n_batch = p.n_ubatch = request["cpu_batch"]
    if config["threads"] is not None:
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = config["threads"]
    if config["gpu_layers"] is not None:
        p.n_gpu_layers = config["gpu_layers"]
    if config["main_gpu"] is not None:
        p.main_gpu = config["main_gpu"]
        p.split_mode = x.llama_split_mode.LLAMA_SPLIT_MODE_NONE
    if config["gpu_layers"] == 0:
        p.mmproj_use_gpu = False
    if config["mmap"] is not None:
        mode = "MMAP" if config["mmap"] else "NONE"
        p.load_mode = getattr(x.llama_load_mode, f"LLAMA_LOAD_MODE_{mode}")
    if config["projector"]:
        p.mmproj.path = config["projector"]
        if config["image_min_tokens"] is not None:
            p.image_min_tokens = config["image_min_tokens"]
    if config["adapters"]:
        p.lora_adapters = [_adapter(x, path) for path in config["adapters"]]
    return p


_FLASH_ATTENTION = {
    "auto": "LLAMA_FLASH_ATTN_TYPE_AUTO",
    "on": "LLAMA_FLASH_ATTN_TYPE_ENABLED",
    "off": "LLAMA_FLASH_ATTN_TYPE_DISABLED",
}


def _adapter(x: Any, path: str) -> Any:
    adapter = x.CommonAdapterLoraInfo()
    adapter.path = path
    adapter.scale = 1.0
    return adapter


if __name__ == "__main__":
    main()
