"""What a caller may ask of an image, as a value and as the texts on the wire (contract storage.md §4). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_storage.errors import invalid_input, invalid_parameter

if TYPE_CHECKING:
    from socle_platform.config.storage import ImageSettings
    from socle_storage.bodies import Fields

RESIZES = ("cover", "contain", "fill")
FORMATS = ("origin", "avif", "webp")
GRAVITIES = ("no", "so", "ea", "we", "noea", "nowe", "soea", "sowe", "ce", "sm", "fp")
_RESIZING_TYPE = {"cover": "fill", "contain": "fit", "fill": "force"}


@dataclass(frozen=True, slots=True)
class Transform:
    """Edges in pixels within the limits, quality 20 to 100; None where nothing was said."""

    width: int | None = None
    height: int | None = None
    resize: str | None = None
    format: str | None = None
    quality: int | None = None
    gravity: str | None = None
    x_offset: float | None = None
    y_offset: float | None = None

    def render(self, *, signed: bool = False) -> str:
        """The text of `X-Transformations`; `signed`: the one in a token, which keeps the caller's own word."""
        parts: list[str] = []
        if self.height:
            parts.append(f"height:{self.height}")
        if self.width:
            parts.append(f"width:{self.width}")
        if self.width or self.height:
            word = self.resize or "cover"
            parts.append(f"resize:{word}" if signed else f"resizing_type:{_RESIZING_TYPE[word]}")
        if self.quality:
            parts.append(f"quality:{self.quality}")
        if self.format and self.format != "origin":
            parts.append(f"format:{self.format}")
        if self.gravity:
            parts.append(":".join(("gravity", self.gravity, *self._offsets())))
        return ",".join(parts)

    def _offsets(self) -> tuple[str, ...]:
        if self.gravity == "sm" or (self.x_offset is None and self.y_offset is None):
            return ()
        return (f"{self.x_offset or 0:g}", f"{self.y_offset or 0:g}")


def parse_transform(fields: Fields, limits: ImageSettings) -> Transform:
    """A transform out of a query or a body. Raises InvalidRequest; InvalidParameter for a focal point without place."""
    quality = fields.integer("quality", minimum=20)
    if quality is not None and quality > 100:
        raise invalid_input(f"{fields.place('quality')} must be <= 100")
    gravity = fields.choice("gravity", GRAVITIES)
    x_offset, y_offset = fields.number("x_offset"), fields.number("y_offset")
    if gravity == "fp" and not all(offset is not None and 0 <= offset <= 1 for offset in (x_offset, y_offset)):
        raise invalid_parameter("gravity", "Focal point requires x and y coordinates within 0-1 range")
    return Transform(
        width=_edge(fields.integer("width", minimum=0), limits),
        height=_edge(fields.integer("height", minimum=0), limits),
        resize=fields.choice("resize", RESIZES),
        format=fields.choice("format", FORMATS),
        quality=quality,
        gravity=gravity,
        x_offset=x_offset,
        y_offset=y_offset,
    )


def parse_signed(text: str, format_name: str | None = None) -> Transform:
    """The transform in a token of ours (`transformations`, and `format` beside it)."""
    values = dict(piece.split(":", 1) for piece in text.split(",") if ":" in piece)
    gravity, _, offsets = values.get("gravity", "").partition(":")
    x_offset, _, y_offset = offsets.partition(":")
    return Transform(
        width=int(values["width"]) if "width" in values else None,
        height=int(values["height"]) if "height" in values else None,
        resize=values.get("resize"),
        format=format_name or values.get("format"),
        quality=int(values["quality"]) if "quality" in values else None,
        gravity=gravity or None,
        x_offset=float(x_offset) if x_offset else None,
        y_offset=float(y_offset) if y_offset else None,
    )


def _edge(value: int | None, limits: ImageSettings) -> int | None:
    return min(max(value, limits.min_edge), limits.max_edge) if value else None
