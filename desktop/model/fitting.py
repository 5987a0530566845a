"""Names that are longer, columns that are wider, and lists that are higher than there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

_END = 8  # characters of a name's end that stay: what says the format, or tells one from another


def fitting(text: str, room: int, measure: Callable[[str], int]) -> str:
    """As much of a text as fits into `room`, with its end; `measure` tells how much a text takes."""
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
    """The widths of columns that share `room`: those that stretch, by as much as they want; the others as they are."""
    fixed = sum(width for width, stretches in zip(wanted, stretching) if not stretches)
    stretched = sum(wanted) - fixed
    left = max(0, room - fixed)
    return [left * width // stretched if stretches else width for width, stretches in zip(wanted, stretching)]


def top_to_show(shown: tuple[float, float], top: float, height: float) -> float:
    """Where a window of this height at `top` has to begin so that it shows from one place to another; `top` if it does.

    What is higher than the window is shown from its beginning.
    """
    upper, lower = shown
    if upper < top or lower - upper > height:
        return upper
    return lower - height if lower > top + height else top
