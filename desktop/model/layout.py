"""Computes layouts: names that fit, columns, tiles, visible ranges. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

_END = 8  # characters of a name's end that stay: what says the format, or tells one from another


def fitting(text: str, room: int, measure: Callable[[str], int]) -> str:
    """As much of a text as fits into `room`, with its end; `measure` gives the width of a text."""
    if measure(text) <= room:
        return text
    end = text[-_END:] if len(text) > 2 * _END else ""
    least, most = 1, len(text) - len(end)  # the first always stays, the last is more than fits
    while most - least > 1:
        middle = (least + most) // 2
        if measure(f"{text[:middle]}…{end}") <= room:
            least = middle
        else:
            most = middle
    return f"{text[:least]}…{end}"


def column_widths(wanted: Sequence[int], stretching: Sequence[bool], room: int) -> list[int]:
    """The widths of columns in `room`: those that stretch get the rest in proportion; the others are fixed."""
    fixed = sum(width for width, stretches in zip(wanted, stretching) if not stretches)
    stretched = sum(wanted) - fixed
    left = max(0, room - fixed)
    return [left * width // stretched if stretches else width for width, stretches in zip(wanted, stretching)]


def top_to_show(shown: tuple[float, float], top: float, height: float) -> float:
    """The scroll position that shows a range in a window of this height; `top` where it is visible there.

    A range higher than the window is shown from its beginning.
    """
    upper, lower = shown
    if upper < top or lower - upper > height:
        return upper
    return lower - height if lower > top + height else top


@dataclass(frozen=True)
class Grid:
    """`count` tiles in rows over the whole `width`: as many beside each other as are at least `least` wide."""

    count: int
    width: int  # pixels that there are, across
    least: int
    tile_height: int
    gap: int  # between tiles

    @property
    def columns(self) -> int:
        return max(1, (self.width + self.gap) // (self.least + self.gap))

    @property
    def tile_width(self) -> int:
        return max(self.least, (self.width - (self.columns - 1) * self.gap) // self.columns)

    @property
    def rows(self) -> int:
        return -(-self.count // self.columns)

    @property
    def height(self) -> int:
        """Of all rows together."""
        return max(0, self.rows * (self.tile_height + self.gap) - self.gap)

    def position(self, place: int) -> tuple[int, int]:
        """The upper left corner of a tile."""
        row, column = divmod(place, self.columns)
        return column * (self.tile_width + self.gap), row * (self.tile_height + self.gap)

    def in_sight(self, top: float, height: float) -> range:
        """The tiles that a window of this height at `top` shows, whole or in part."""
        step = self.tile_height + self.gap
        first, last = max(0, int(top // step)), max(0, int(-(-(top + height) // step)))
        return range(min(self.count, first * self.columns), min(self.count, last * self.columns))

    def place_at(self, x: float, y: float) -> Optional[int]:
        """The tile at a point; None between tiles and behind the last."""
        column, across = divmod(x, self.tile_width + self.gap)
        row, down = divmod(y, self.tile_height + self.gap)
        if not (0 <= column < self.columns and row >= 0 and across < self.tile_width and down < self.tile_height):
            return None
        place = int(row) * self.columns + int(column)
        return place if place < self.count else None

    def moved(self, place: Optional[int], step: int) -> Optional[int]:
        """The place `step` tiles on from another, kept within the grid; the first where there was none."""
        if not self.count:
            return None
        return 0 if place is None else min(self.count - 1, max(0, place + step))

    def top_to_show(self, place: int, top: float, height: float) -> float:
        """The scroll position that shows this tile whole; `top` where it is visible there."""
        upper = self.position(place)[1]
        return top_to_show((upper, upper + self.tile_height), top, height)
