"""Bytes of an image to bytes of another: by libvips (pyvips), or by Pillow where that is missing or cannot.

Runs in a worker thread. Both libraries are imported at the first picture. Sizes are read from the header and refused
before anything is unpacked, so a small file that unpacks to gigabytes costs nothing.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from socle_platform.errors import SocleError
from socle_storage.images.layout import Layout, plan_layout

if TYPE_CHECKING:
    from socle_storage.transforms import Transform

TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "ico": "image/x-icon",
}
_VIPS_SOURCES = frozenset({"jpeg", "png", "webp", "gif", "tiff", "avif", "heic"})
_ANIMATED = frozenset({"gif", "webp"})
_HEIF_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"msf1": "heic"}
DEFAULT_QUALITY = 80
UNREADABLE = "The source image is invalid or unsupported for rendering"
TOO_MANY_PIXELS = "The source image resolution is too large to process"


class ImageUnreadable(SocleError):
    """The source image is invalid or unsupported for rendering"""


class ImageTooLarge(SocleError):
    """The source image resolution is too large to process"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a source may unpack to: pixels of all its frames together, and frames."""

    pixels: int
    frames: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """An image as it is sent."""

    body: bytes
    mimetype: str


def sniff(head: bytes) -> str | None:
    """The format by the first bytes (64 or more); None when it is none of ours."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return next((name for brand, name in _HEIF_BRANDS.items() if brand in head[8:32]), None)
    if head.startswith((b"II*\x00", b"MM\x00*")):
        return "tiff"
    if head.startswith(b"BM"):
        return "bmp"
    if head.startswith(b"\x00\x00\x01\x00"):
        return "ico"
    return None


def output_format(source: str, wanted: str | None) -> str:
    """The format to send: as wanted, else the source's own, or JPEG for one that is only read."""
    if wanted is not None and wanted != "origin":
        return wanted
    return "jpeg" if source == "heic" else source


def render(source: bytes, transform: Transform, wanted: str | None, bounds: Bounds) -> Rendered:
    """The image, transformed. `wanted`: the format, None for the source's. Raises ImageUnreadable, ImageTooLarge."""
    kind = sniff(source[:64])
    if kind is None:
        raise ImageUnreadable(UNREADABLE)
    target = output_format(kind, wanted)
    if kind in _VIPS_SOURCES and target not in {"bmp", "ico"} and (pyvips := load_vips()) is not None:
        try:
            return Rendered(_render_vips(pyvips, source, transform, target, bounds), TYPES[target])
        except pyvips.Error as error:
            raise ImageUnreadable(UNREADABLE) from error
    return Rendered(_render_pillow(source, transform, target, bounds), TYPES[target])


# --- libvips


@cache
def load_vips() -> Any:
    """The library, or None. Loaders that were never meant for strangers' files are switched off."""
    logging.getLogger("pyvips").setLevel(logging.ERROR)
    try:
        pyvips: Any = import_module("pyvips")
    except (ImportError, OSError):
        return None
    pyvips.block_untrusted_set(True)
    pyvips.cache_set_max(0)
    return pyvips


def _render_vips(pyvips: Any, source: bytes, transform: Transform, target: str, bounds: Bounds) -> bytes:
    probe = pyvips.Image.new_from_buffer(source, "", access="sequential")
    pages = probe.get("n-pages") if probe.get_typeof("n-pages") else 1
    if target not in _ANIMATED or not probe.get_typeof("delay"):
        pages = 1
    pages = min(pages, bounds.frames)
    width, height = probe.width, probe.height
    if width * height * pages > bounds.pixels:
        raise ImageTooLarge(TOO_MANY_PIXELS)
    turned = probe.get_typeof("orientation") and probe.get("orientation") >= 5
    layout = plan_layout(*((height, width) if turned else (width, height)), transform)
    image = pyvips.Image.thumbnail_buffer(
        source,
        layout.scaled[0],
        height=layout.scaled[1],
        size="force",
        output_profile="srgb",
        fail_on="error",
        option_string=f"n={pages}" if pages > 1 else "",
    )
    if layout.is_cropped:
        image = _crop_vips(pyvips, image, layout, pages)
    return _save_vips(image, target, transform.quality or DEFAULT_QUALITY)


def _crop_vips(pyvips: Any, image: Any, layout: Layout, pages: int) -> Any:
    if pages == 1:
        if layout.smart:
            return image.smartcrop(*layout.size, interesting="attention")
        return image.crop(layout.left, layout.top, *layout.size)
    tall = image.height // pages
    image = image.copy_memory()
    frames = [image.crop(layout.left, layout.top + number * tall, *layout.size) for number in range(pages)]
    joined = pyvips.Image.arrayjoin(frames, across=1).copy()
    joined.set_type(pyvips.GValue.gint_type, "page-height", layout.size[1])
    return joined


def _save_vips(image: Any, target: str, quality: int) -> bytes:
    match target:
        case "jpeg":
            if image.hasalpha():
                image = image.flatten(background=255)
            saved = image.jpegsave_buffer(Q=quality, keep="none", optimize_coding=True)
        case "webp":
            saved = image.webpsave_buffer(Q=quality, keep="none")
        case "avif":
            saved = image.heifsave_buffer(Q=quality, keep="none", compression="av1", effort=3)
        case "gif":
            saved = image.gifsave_buffer(keep="none")
        case "tiff":
            saved = image.tiffsave_buffer(Q=quality, keep="none", compression="jpeg" if image.bands == 3 else "deflate")
        case _:
            saved = image.pngsave_buffer(keep="none", compression=6)
    return bytes(saved)


# --- Pillow


def _render_pillow(source: bytes, transform: Transform, target: str, bounds: Bounds) -> bytes:
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = bounds.pixels // 2  # Pillow refuses twice that, also for an image within an icon
    try:
        with Image.open(io.BytesIO(source)) as opened:
            if opened.width * opened.height > bounds.pixels:
                raise ImageTooLarge(TOO_MANY_PIXELS)
            image: Any = ImageOps.exif_transpose(opened)
            layout = plan_layout(image.width, image.height, transform)
            image = image.convert("RGBA" if "A" in image.getbands() or image.mode == "P" else "RGB")
            if layout.scaled != image.size:
                image = image.resize(layout.scaled, Image.Resampling.LANCZOS)
            if layout.is_cropped:
                corner = (layout.left + layout.size[0], layout.top + layout.size[1])
                image = image.crop((layout.left, layout.top, *corner))
            return _save_pillow(image, target, transform.quality or DEFAULT_QUALITY)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise ImageUnreadable(UNREADABLE) from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(TOO_MANY_PIXELS) from error


def _save_pillow(image: Any, target: str, quality: int) -> bytes:
    from PIL import Image

    if target in {"jpeg", "bmp"} and image.mode == "RGBA":
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    output = io.BytesIO()
    options: dict[str, Any] = {"quality": quality} if target in {"jpeg", "webp", "avif"} else {}
    if target == "ico":
        options["sizes"] = [image.size]
    image.save(output, format=target, **options)
    return output.getvalue()
