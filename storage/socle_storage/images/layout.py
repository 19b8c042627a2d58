"""Where the pixels go: how far to scale, and what to cut off. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_storage.transforms import Transform

_EDGES = {
    "ce": (0.5, 0.5),
    "no": (0.5, 0.0),
    "so": (0.5, 1.0),
    "ea": (1.0, 0.5),
    "we": (0.0, 0.5),
    "noea": (1.0, 0.0),
    "nowe": (0.0, 0.0),
    "soea": (1.0, 1.0),
    "sowe": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Scale to `scaled`, then keep `size` pixels from `left`, `top`. `smart`: let the picture's content say where."""

    scaled: tuple[int, int]
    left: int
    top: int
    size: tuple[int, int]
    smart: bool = False

    @property
    def is_cropped(self) -> bool:
        return self.size != self.scaled


def plan_layout(width: int, height: int, transform: Transform) -> Layout:
    """The layout for a source of that size. Nothing is enlarged, and no edge is below one pixel."""
    wanted = (transform.width, transform.height)
    if wanted[0] is None and wanted[1] is None:
        return Layout((width, height), 0, 0, (width, height))
    across = 1.0 if wanted[0] is None else wanted[0] / width
    down = 1.0 if wanted[1] is None else wanted[1] / height
    if wanted[0] is None:
        across = down
    if wanted[1] is None:
        down = across
    if transform.resize == "fill":
        return _whole((_edge(width, min(across, 1.0)), _edge(height, min(down, 1.0))))
    if transform.resize == "contain" or None in wanted:
        scale = min(across, down, 1.0)
        return _whole((_edge(width, scale), _edge(height, scale)))
    scale = min(max(across, down), 1.0)
    scaled = (_edge(width, scale), _edge(height, scale))
    size = (min(wanted[0] or scaled[0], scaled[0]), min(wanted[1] or scaled[1], scaled[1]))
    return _cropped(scaled, size, transform)


def _whole(scaled: tuple[int, int]) -> Layout:
    return Layout(scaled, 0, 0, scaled)


def _cropped(scaled: tuple[int, int], size: tuple[int, int], transform: Transform) -> Layout:
    spare = (scaled[0] - size[0], scaled[1] - size[1])
    gravity = transform.gravity or "ce"
    if gravity == "sm":
        return Layout(scaled, spare[0] // 2, spare[1] // 2, size, smart=True)
    x_offset, y_offset = transform.x_offset or 0.0, transform.y_offset or 0.0
    if gravity == "fp":
        left = x_offset * scaled[0] - size[0] / 2
        top = y_offset * scaled[1] - size[1] / 2
    else:
        at = _EDGES[gravity]
        left = spare[0] * at[0] + _pixels(x_offset, size[0]) * (-1 if at[0] == 1.0 else 1)
        top = spare[1] * at[1] + _pixels(y_offset, size[1]) * (-1 if at[1] == 1.0 else 1)
    return Layout(scaled, _within(left, spare[0]), _within(top, spare[1]), size)


def _pixels(offset: float, edge: int) -> float:
    """Offsets below one are a share of the edge, others are pixels."""
    return offset * edge if abs(offset) < 1 else offset


def _within(position: float, spare: int) -> int:
    return min(max(round(position), 0), spare)


def _edge(edge: int, scale: float) -> int:
    return max(round(edge * scale), 1)
