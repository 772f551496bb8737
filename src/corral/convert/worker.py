"""The process that converts: ``python -m corral.convert.worker``.

It reads one line of JSON from stdin, writes the target, and prints one line of JSON per step: ``total`` and ``completed``
bytes, or ``error`` with a sentence, or ``done``. When stdin ends before that, so does the process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corral.errors import CorralError

_EVERY_S = 0.05


def main() -> None:
    """Convert what stdin asks for; the exit status is 0 when it is done, 1 when not."""
    request = json.loads(sys.stdin.buffer.readline() or b"{}")
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    try:
        _convert(request)
    except CorralError as exc:
        _fail(str(exc))
    except OSError as exc:
        _fail(f"the conversion could not read or write: {exc}")
    except Exception as exc:  # whatever strange files did to us, the one who sent them is told
        _fail(f"the files cannot be converted: {type(exc).__name__}: {exc}")
    _say({"done": True})
    os._exit(0)  # in order, the thread that waits for stdin would be waited for


def _convert(request: Mapping[str, Any]) -> None:
    from corral.convert.adapter import plan_adapter
    from corral.convert.files import Folder
    from corral.convert.model import plan_model

    folder = Folder({name: Path(path) for name, path in request["files"].items()})
    target = Path(request["target"])
    is_adapter = request["kind"] == "adapter"
    plan = plan_adapter(folder, Path(request["base"])) if is_adapter else plan_model(folder, request["name"])
    said = -_EVERY_S
    for completed in plan.write(target):
        if time.monotonic() - said >= _EVERY_S or completed == plan.size_bytes:
            _say({"total": plan.size_bytes, "completed": completed})
            said = time.monotonic()


def _fail(error: str) -> None:
    _say({"error": " ".join(error.split())[:2000]})
    os._exit(1)


def _say(message: Mapping[str, Any]) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201


def _exit_at_end_of_input() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
