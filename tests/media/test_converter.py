"""Plain images from child processes: what they are, what ends a child, and that nobody else notices."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from anyio import to_thread
from PIL import Image

from corral.errors import InvalidRequest
from corral.media.converter import WORKER, Converter
from corral.media.pictures import MOST_SEEN_PIXELS

pytestmark = pytest.mark.anyio

MANY = 1 << 30


def file_of(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def gradient(size: tuple[int, int]) -> Image.Image:
    bands = (Image.linear_gradient("L"), Image.radial_gradient("L"), Image.new("L", (1, 1), 90))
    return Image.merge("RGB", [band.resize(size) for band in bands])


SMALL = file_of(gradient((60, 40)))


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if "corral.media.worker" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def stand_in(code: str) -> list[str]:
    return [sys.executable, "-c", "import json, os, sys, time\n" + textwrap.dedent(code)]


async def test_a_png_has_the_same_pixels_afterwards() -> None:
    async with Converter(MANY, MANY) as converter:
        made = await converter.picture(SMALL)
    assert (made.width, made.height) == (60, 40)
    assert opened(made.data).tobytes() == opened(SMALL).tobytes()
    assert not children()


async def test_a_jpeg_stays_a_jpeg_of_its_size_and_nearly_its_pixels() -> None:
    sent = file_of(gradient((640, 480)), "JPEG", quality=80)
    async with Converter(MANY, MANY) as converter:
        made = await converter.picture(sent)
    assert opened(made.data).format == "JPEG"
    assert len(made.data) < 1.1 * len(sent)
    before, after = opened(sent).tobytes(), opened(made.data).tobytes()
    assert sum(abs(a - b) for a, b in zip(before, after, strict=True)) / len(before) < 1


async def test_nothing_but_pixels_is_left_of_a_file() -> None:
    exif = Image.Exif()
    exif[0x010F] = "the camera of somebody"
    more = {"exif": exif, "icc_profile": b"a profile of somebody", "comment": b"a comment of somebody"}
    async with Converter(MANY, MANY) as converter:
        for form in ("JPEG", "PNG", "WEBP"):
            sent = file_of(gradient((60, 40)), form, **more) + b"behind the end of somebody"
            made = await converter.picture(sent)
            assert not {"exif", "icc_profile", "comment"} & set(opened(made.data).info)
            assert b"of somebody" in sent
            assert b"of somebody" not in made.data


@pytest.mark.parametrize(
    "image",
    [
        Image.new("1", (8, 8), 1),
        Image.new("L", (8, 8), 255),
        Image.new("LA", (8, 8), (0, 0)),
        Image.new("P", (8, 8), 255).convert("P"),
        Image.new("I;16", (8, 8), 65535),
    ],
    ids=lambda image: image.mode,
)
async def test_every_kind_of_pixel_becomes_rgb(image: Image.Image) -> None:
    if image.mode == "P":
        image.putpalette([255, 255, 255] * 256)
    async with Converter(MANY, MANY) as converter:
        made = await converter.picture(file_of(image))
    assert opened(made.data).mode == "RGB"
    assert opened(made.data).getcolors() == [(64, (255, 255, 255))]


async def test_four_inks_become_three_colours() -> None:
    async with Converter(MANY, MANY) as converter:
        made = await converter.picture(file_of(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG"))
    assert opened(made.data).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
async def test_what_no_model_could_see_is_made_smaller(form: str) -> None:
    sent = file_of(gradient((6000, 4000)), form)
    async with Converter(MANY, MANY) as converter:
        made = await converter.picture(sent)
    assert made.width * made.height <= MOST_SEEN_PIXELS
    assert made.width / made.height == pytest.approx(1.5, rel=0.001)


async def test_limits_are_named_with_what_was_sent() -> None:
    async with Converter(len(SMALL) - 1, MANY) as converter:
        with pytest.raises(
            InvalidRequest, match=rf"has {len(SMALL)} bytes, where {len(SMALL) - 1} are allowed; .*_BYTES"
        ):
            await converter.picture(SMALL)
    async with Converter(MANY, 60 * 40 - 1) as converter:
        with pytest.raises(InvalidRequest, match=r"has 60 x 40 pixels, .* where 0.0 are allowed; .*_PIXELS"):
            await converter.picture(SMALL)


async def test_one_child_serves_many_images_and_none_twice() -> None:
    async with Converter(MANY, MANY) as converter:
        await converter.picture(SMALL)
        (child,) = children()
        for colour in ("red", "blue", "red"):
            await converter.picture(file_of(Image.new("RGB", (8, 8), colour)))
        assert children() == [child]
        child.kill()
        assert (await converter.picture(SMALL)).width == 60  # known


async def test_a_child_that_died_is_replaced() -> None:
    async with Converter(MANY, MANY) as converter:
        await converter.picture(SMALL)
        (child,) = children()
        child.kill()
        await converter.picture(file_of(Image.new("RGB", (8, 8))))
        assert [other.pid for other in children()] != [child.pid]


async def test_a_decoder_that_dies_of_an_image_is_an_error_of_that_image() -> None:
    async with Converter(MANY, MANY, worker=stand_in("sys.stdin.buffer.readline(); os.abort()")) as converter:
        with pytest.raises(InvalidRequest, match="the PNG image cannot be read: its decoder ended unexpectedly"):
            await converter.picture(SMALL)


async def test_a_decoder_that_does_not_end_is_ended(tmp_path: Path) -> None:
    worker = stand_in(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    async with Converter(MANY, MANY, patience_s=1.0, worker=worker) as converter:
        with pytest.raises(InvalidRequest, match="it takes more than 1 s"):
            await converter.picture(SMALL)
        assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


async def test_who_hangs_up_leaves_no_child_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    worker = stand_in(f"sys.stdin.readline(); open({str(tmp_path / 'pipe')!r}, 'w').close(); time.sleep(600)")
    before = set(psutil.Process().children())
    async with Converter(MANY, MANY, worker=worker) as converter:
        task = asyncio.ensure_future(converter.picture(SMALL))
        await to_thread.run_sync((tmp_path / "pipe").read_bytes)  # until it works on the image
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert set(psutil.Process().children()) <= before


async def test_a_child_cannot_take_the_machines_memory() -> None:
    code = "import corral.media.worker as w; w._bound_memory(1000); bytearray(1 << 30)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert b"MemoryError" in said


async def test_a_child_ends_with_its_server() -> None:
    process = await asyncio.create_subprocess_exec(*WORKER, "1000", stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0
