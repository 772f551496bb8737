"""What an engine says in its log of the memory it takes, and whether that is what it died of. Pure functions on text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|compute|output) buffer size\s*=\s*([0-9.]+) MiB")
_LAYERS = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
# What llama.cpp, its backends and C++ say when there is not enough; as Ollama knows them, and the word of the standard library.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|out of device memory|outofdevicememory|erroroutofmemory|cudamalloc failed|hipmalloc failed|failed to allocate"
    r"|allocation failed|unable to allocate|cannot allocate memory|not enough memory|insufficient memory|bad_alloc"
    r"|mem_buffer != null",
    re.IGNORECASE,
)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryAccount:
    """Bytes of an engine's buffers by device, main memory being ``CPU``, and those of them that are files mapped into it."""

    buffers: Mapping[str, int]
    mapped_bytes: int
    gpu_layers: int = 0

    @property
    def on_devices(self) -> int:
        """Bytes that are not in main memory."""
        return sum(size for name, size in self.buffers.items() if name != "CPU")


def memory_account(log: str) -> MemoryAccount:
    """What the log of a load says.

    >>> memory_account("CPU_Mapped model buffer size =   4.50 MiB\\n llama_kv_cache: CUDA0 KV buffer size = 2.00 MiB")
    MemoryAccount(buffers={'CPU': 4718592, 'CUDA0': 2097152}, mapped_bytes=4718592, gpu_layers=0)
    """
    buffers: Counter[str] = Counter()
    mapped = 0
    for where, what, size in _BUFFER.findall(log):
        size_bytes = round(float(size) * _MIB)
        in_main = where.startswith("CPU") or where.endswith("_Host") or where == "BLAS"
        buffers["CPU" if in_main else where.removesuffix("_Mapped")] += size_bytes
        if what == "model" and where == "CPU_Mapped":
            mapped += size_bytes
    offloaded = _LAYERS.findall(log)
    return MemoryAccount(dict(buffers), mapped, int(offloaded[-1][0]) if offloaded else 0)


def says_out_of_memory(log: str) -> bool:
    """Whether the end of a log tells of memory that was not there.

    >>> says_out_of_memory("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9 MiB on device 0: cudaMalloc failed")
    True
    """
    return _OUT_OF_MEMORY.search(log) is not None
