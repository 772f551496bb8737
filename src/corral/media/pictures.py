"""One image, from what a client sent to a plain file; run in a process of its own.

What the engine gets was written here, by an encoder, from pixels: its own decoders have had memory errors, and never see a byte
that a client chose. A JPEG stays one, with its own quantisation tables, so that next to nothing changes and it stays small;
everything else becomes a PNG.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, JpegImagePlugin

# Twice what any model that llama.cpp knows looks at; what is larger only costs it seconds.
MOST_SEEN_PIXELS = 4096 * 2048
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_WHITE = (255, 255, 255)


class UnreadableError(ValueError):
    """What was sent is no image that can be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Plain:
    """An image that was written here."""

    data: bytes
    width: int
    height: int


def plain(data: bytes, max_pixels: int) -> Plain:
    """The image in ``data``: its first frame, upright, in RGB, what is transparent on white. Raises `UnreadableError`."""
    Image.MAX_IMAGE_PIXELS = None  # the check below comes before anything is decoded, and has a limit of its own
    warnings.simplefilter("ignore")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, max_pixels)
            return _plain(image)
    except UnreadableError:
        raise
    except MemoryError:
        raise UnreadableError("it needs too much memory") from None
    except Exception as exc:  # decoders complain in many ways
        raise UnreadableError(f"it is damaged: {' '.join(str(exc).split())[:200] or type(exc).__name__}") from exc


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableError(f"it has {width} x {height} pixels")
    if width * height > max_pixels:
        raise UnreadableError(
            f"it has {width} x {height} pixels, {width * height / 1e6:.1f} megapixels, where {max_pixels / 1e6:.1f} "
            "are allowed; send a smaller one, or raise CORRAL_IMAGE_MAX_PIXELS"
        )


def _plain(image: Image.Image) -> Plain:
    tables = image.quantization if isinstance(image, JpegImagePlugin.JpegImageFile) else None
    sampling = JpegImagePlugin.get_sampling(image) if tables is not None else -1
    is_rgb = image.mode == "RGB"
    image.load()
    picture = ImageOps.exif_transpose(_rgb(_reduced(image)))
    picture.info = {}  # of which encoders would write comments and profiles
    file = io.BytesIO()
    if tables is None:
        picture.save(file, "PNG", compress_level=1)
    elif is_rgb and sampling in (0, 1, 2) and all(max(table) < 256 for table in tables.values()):
        picture.save(file, "JPEG", qtables=tables, subsampling=sampling)
    else:
        picture.save(file, "JPEG", quality=95)
    return Plain(file.getvalue(), picture.width, picture.height)


def _reduced(image: Image.Image) -> Image.Image:
    """``image`` made smaller, if it is larger than any model looks at."""
    scale = math.sqrt(MOST_SEEN_PIXELS / (image.width * image.height))
    if scale >= 1:
        return image
    size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    if image.mode in ("P", "1"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    smaller = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    smaller.info.update(image.info)
    smaller.getexif().update(image.getexif())
    return smaller


def _rgb(image: Image.Image) -> Image.Image:
    exif = image.getexif()
    if image.mode.startswith("I"):  # 16 bits, which a plain conversion would cut off
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        upper = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, _WHITE)
        rgb.paste(upper, mask=upper.getchannel("A"))
    else:
        rgb = image if image.mode == "RGB" else image.convert("RGB")
    if orientation := exif.get(_ORIENTATION):
        rgb.getexif()[_ORIENTATION] = orientation
    return rgb


_ORIENTATION = 0x0112
