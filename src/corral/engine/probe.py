"""The process that lists devices: ``python -m corral.engine.probe`` prints one line of JSON and ends, or ends with its stdin.

Only this module and the workers import native code.
"""

from __future__ import annotations

import json
import os
import sys
import threading


def main() -> None:
    """Print the devices besides the processor. As for llama.cpp, integrated ones count if there is no other."""
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    import xllamacpp

    kinds = xllamacpp.ggml_backend_dev_type
    every = xllamacpp.get_device_info()
    own = [d for d in every if d["type"] == kinds.GGML_BACKEND_DEVICE_TYPE_GPU]
    shared = [d for d in every if d["type"] == kinds.GGML_BACKEND_DEVICE_TYPE_IGPU]
    keys = ("name", "description", "memory_total", "memory_free")
    found = [{**{key: d[key] for key in keys}, "index": n, "shared": not own} for n, d in enumerate(own or shared)]
    print(json.dumps(found), flush=True)  # noqa: T201
    os._exit(0)  # a driver that hangs while it says goodbye is not waited for


def _exit_at_end_of_input() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
