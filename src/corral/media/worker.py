"""The process that reads images: ``python -m corral.media.worker MAX_PIXELS``.

It reads a line of JSON with the ``size`` of an image and its bytes, and answers with a line of JSON, ``size``, ``width`` and
``height``, and the bytes of the plain image, or with an ``error``; and so on, until stdin ends or nothing came for a while. Its
memory is bounded. Only this process imports the library that decodes.
"""

from __future__ import annotations

import json
import select
import sys
from typing import Any

IDLE_S = 60.0
_OWN_BYTES = 512 << 20
_BYTES_PER_PIXEL = 16


def main() -> None:
    """Work until nothing is left to do."""
    max_pixels = int(sys.argv[1])
    _bound_memory(max_pixels)
    from corral.media.pictures import UnreadableError, plain

    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while _comes() and (line := source.readline()):
        data = source.read(json.loads(line)["size"])
        try:
            picture = plain(data, max_pixels)
        except UnreadableError as exc:
            _say({"error": str(exc)})
            continue
        _say({"size": len(picture.data), "width": picture.width, "height": picture.height})
        sink.write(picture.data)
        sink.flush()


def _comes() -> bool:
    """Wait for more to do; false when it does not come."""
    if sys.platform == "win32":  # no pipe can be waited for there
        return True
    return bool(select.select([sys.stdin], [], [], IDLE_S)[0])


def _bound_memory(max_pixels: int) -> None:
    """Whatever a file makes the decoders do, they do not take the machine's memory."""
    if sys.platform == "win32":
        return
    import resource

    most = _OWN_BYTES + _BYTES_PER_PIXEL * max_pixels
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    except (ValueError, OSError):  # macOS does not have it
        return


def _say(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
