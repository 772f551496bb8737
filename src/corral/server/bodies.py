"""The body of a request, unpacked if it came packed."""

from __future__ import annotations

import zlib

from anyio import to_thread
from starlette.requests import Request

from corral.dialects.refusals import Refusal

LARGEST = 128 << 20  # of what was packed: large images, and no bombs
_STEP = 1 << 10  # of zstd at a time: even a bomb makes no more than 32 MiB of it


async def body_of(request: Request) -> bytes:
    """The bytes of ``request``, which may be in ``gzip``, ``deflate`` or ``zstd``. Raises `Refusal`: 413 past `LARGEST`."""
    body = await request.body()
    packed = [name.strip() for name in request.headers.get("content-encoding", "").lower().split(",")]
    for encoding in reversed(packed):
        if encoding not in ("", "identity"):
            body = await to_thread.run_sync(_unpacked, body, encoding)
    return body


def _unpacked(body: bytes, encoding: str) -> bytes:
    try:
        match encoding:
            case "gzip" | "x-gzip" | "deflate":
                unpack = zlib.decompressobj(wbits=47 if encoding != "deflate" else 15)
                found = unpack.decompress(body, LARGEST + 1)
                whole = unpack.eof
            case "zstd":
                found, whole = _zstd(body)
            case _:
                raise Refusal(415, f'content-encoding "{encoding}" is not understood; send gzip, zstd, or none')
    except zlib.error as exc:
        raise Refusal(400, f"the body is not {encoding}: {exc}") from exc
    if len(found) > LARGEST:
        raise Refusal(413, f"the body is larger than {LARGEST >> 20} MiB when it is unpacked")
    if not whole:
        raise Refusal(400, f"the body is not {encoding}: it ends too early")
    return found


def _zstd(body: bytes) -> tuple[bytes, bool]:
    import zstandard

    try:
        unpack = zstandard.ZstdDecompressor(max_window_size=8 << 20).decompressobj()
        found = bytearray()
        for start in range(0, len(body), _STEP):
            found += unpack.decompress(body[start : start + _STEP])
            if len(found) > LARGEST or unpack.eof:
                break
    except zstandard.ZstdError as exc:
        raise Refusal(400, f"the body is not zstd: {exc}") from exc
    return bytes(found), unpack.eof
