"""The process that quantises one model, and ends.

``python -m corral.gguf.worker`` reads one line of JSON from stdin (a `Request`), writes the new file, and meanwhile prints
lines of JSON: how far it is, and at last that it is done or what went wrong. When stdin ends, so does the process, however
its parent died; an unfinished file goes with it.

Only this process loads native code for it, so that a fault in a kernel costs one child and not the server.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from corral.errors import CorralError, GgufError, QuantizationError, StoreError
from corral.gguf.kernels import Kernels
from corral.gguf.mixtures import mixture
from corral.gguf.plan import SPLIT_KEYS, Plan, PlannedTensor, plan
from corral.gguf.reader import printable
from corral.gguf.types import TENSOR_TYPES
from corral.gguf.write import GgufWriter

# Numbers that a thread converts at once: a multiple of every format's blocks. One megabyte of them as floats fits into most caches.
NUMBERS_AT_ONCE = 1 << 18
PROGRESS_EVERY_S = 0.1
PATIENCE = 5  # how much an engine that answers somebody goes before this process; the unit of nice(2)
_KINDS = {kind.name: kind for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class Request:
    """What to do: the parts of a model, the file to write, the name of the mixture. ``threads`` 0 means one for each core."""

    sources: list[str]
    target: str
    file_type: str
    allow_requantize: bool = False
    threads: int = 0


def main() -> None:
    """Do what stdin says, once."""
    request = Request(**json.loads(sys.stdin.buffer.readline()))
    target = Path(request.target)
    threading.Thread(target=_give_up_at_end_of_input, args=(target,), daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(PATIENCE)
    try:
        quantise(request)
    except CorralError as exc:
        _fail(target, str(exc), type(exc).__name__)
    except OSError as exc:
        where = f" ({exc.filename})" if exc.filename else ""
        _fail(target, f"the quantised file could not be written: {exc.strerror}{where}", StoreError.__name__)
    _say(done=True)


def quantise(request: Request) -> None:
    """Write the file that ``request`` asks for, and say how far it is."""
    sources = [Path(source) for source in request.sources]
    work = plan(sources, mixture(request.file_type), allow_requantize=request.allow_requantize)
    target = Path(request.target)
    with target.open("wb") as file:
        writer = GgufWriter(file, [tensor.target for tensor in work.tensors], work.first.alignment)
        _check_room(target, writer.size_bytes)
        writer.begin(work.first, work.changed, SPLIT_KEYS)
        _convert(work, writer, request.threads or _cores())
        writer.finish()


def _convert(work: Plan, writer: GgufWriter, threads: int) -> None:
    """Read and write in order, in this thread, and convert in others what lies between."""
    kernels, progress = Kernels(), _ProgressLines(work.total_bytes)
    waiting: deque[tuple[int, Future[bytes | bytearray]]] = deque()

    def write_oldest() -> None:
        length, piece = waiting.popleft()
        writer.write(piece.result())
        progress.add(length)

    with ThreadPoolExecutor(threads) as pool:
        for tensor, data in _pieces(work):
            if len(waiting) >= 2 * threads:
                write_oldest()
            waiting.append((len(data), pool.submit(_converted, kernels, tensor, data)))
        while waiting:
            write_oldest()


def _pieces(work: Plan) -> Iterator[tuple[PlannedTensor, bytes]]:
    """The data of all tensors in order, none of the pieces from two."""
    for part, tensors in _by_part(work):
        with part.open("rb") as file:
            for tensor in tensors:
                kind = _KINDS[tensor.source.type_name]
                longest = NUMBERS_AT_ONCE // kind.block * kind.bytes
                file.seek(tensor.source.offset)
                left = tensor.source.size_bytes
                while left:
                    data = file.read(min(left, longest))
                    if len(data) < min(left, longest):
                        raise GgufError(f"{part.name} became shorter while it was read")
                    left -= len(data)
                    yield tensor, data


def _by_part(work: Plan) -> Iterator[tuple[Path, list[PlannedTensor]]]:
    for part in dict.fromkeys(tensor.path for tensor in work.tensors):
        yield part, [tensor for tensor in work.tensors if tensor.path == part]


def _converted(kernels: Kernels, tensor: PlannedTensor, data: bytes) -> bytes | bytearray:
    source, target = tensor.source.type_name, tensor.target.type_name
    name = printable(tensor.source.name[:80])
    if not kernels.are_finite(source, data):
        raise QuantizationError(f'the tensor "{name}" has values that are no finite numbers')
    if source == target:
        return data
    made = kernels.converted(source, target, data)
    if not kernels.are_finite(target, made):
        raise QuantizationError(f'the tensor "{name}" has numbers that are too large for {target}; try: BF16')
    return made


class _ProgressLines:
    """Says how much is done, a few times per second."""

    def __init__(self, total: int) -> None:
        self._completed, self._total = 0, total
        self._next_s = 0.0

    def add(self, length: int) -> None:
        self._completed += length
        if time.monotonic() >= self._next_s or self._completed == self._total:
            _say(completed=self._completed, total=self._total)
            self._next_s = time.monotonic() + PROGRESS_EVERY_S


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise StoreError(f"the new file needs {needed:,} bytes, and {target.parent} has {free:,} left")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _fail(target: Path, text: str, kind: str) -> NoReturn:
    """Say what went wrong and which class of `corral.errors` it is, and end."""
    with suppress(OSError):
        target.unlink(missing_ok=True)
    _say(error=text, kind=kind)
    sys.exit(1)


def _say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)  # noqa: T201


def _give_up_at_end_of_input(target: Path) -> None:
    while os.read(sys.stdin.fileno(), 1):  # not by sys.stdin, whose lock the end of the interpreter wants
        pass
    with suppress(OSError):
        target.unlink(missing_ok=True)
    os._exit(1)


if __name__ == "__main__":
    main()
