"""Sizes, rates, times and redundancy in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from common.text import printable

_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NAMED = 2  # devices that are away; of more, their number
_SHOWN_NAMES = 3
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def redundancy(k: int, n: int) -> str:
    """What k of n means: "any 4 of 6 devices bring it back; two may be lost"."""
    lost = n - k
    if lost == 0:
        return f"all {n} devices are needed to bring it back; none may be lost"
    return f"any {k} of {n} devices bring it back; {_number(lost)} may be lost"


def waiting(k: int, n: int, here: int, away: Sequence[str]) -> str:
    """What it means to code k of n for the `here` devices that are connected and for those that are `away`."""
    who = names(away) if len(away) <= _NAMED else count(len(away), "device")
    is_, it_is = ("is", "it is") if len(away) == 1 else ("are", "they are")
    later = f"{who} {is_} away. Shares that find no device now are made when {it_is} back"
    lost = here - k
    return f"{later}." if here >= n else f"{later}; until then {_number(lost)} of the {here} here may be lost."


def names(given: Sequence[str]) -> str:
    """Some of them, and how many more there are."""
    shown = [printable(name) for name in given[:_SHOWN_NAMES]]
    more = [f"{len(given) - _SHOWN_NAMES} more"] if len(given) > _SHOWN_NAMES else []
    *first, last = [*shown, *more]
    return f"{', '.join(first)} and {last}" if first else last


def _number(value: int) -> str:
    return _NUMBERS[value] if value < len(_NUMBERS) else str(value)


def size(count: float) -> str:
    """Bytes, as "2.4 MB"."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 99.5 else f"{count:.1f} {_UNITS[unit]}"


def rate(per_second: Optional[float]) -> str:
    return "" if per_second is None else f"{size(per_second)}/s"


def time_left(seconds: Optional[float]) -> str:
    """As "about 2 min left"; empty where it is not known."""
    if seconds is None:
        return ""
    if seconds < 1.5:
        return "about a second left"
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"


def count(number: int, what: str) -> str:
    """A number and a noun: "1 image", "3 images"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
