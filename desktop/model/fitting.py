"""Names that are longer than there is room for."""

from __future__ import annotations

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
