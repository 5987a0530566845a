"""Sizes, rates, times and redundancy in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from common.text import count, format_duration, format_size, printable

_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NAMED = 2  # devices that are away; of more, their number
_SHOWN_NAMES = 3


def redundancy(k: int, n: int) -> str:
    """What k of n means: "any 4 of 6 devices bring it back; two may be lost"."""
    lost = n - k
    if lost == 0:
        return f"all {n} devices are needed to bring it back; none may be lost"
    return f"any {k} of {n} devices bring it back; {_number(lost)} may be lost"


def waiting(k: int, n: int, here: int, away: Sequence[str]) -> str:
    """What k of n means for the `here` devices that are connected and for those that are `away`."""
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


def rate(per_second: Optional[float]) -> str:
    return "" if per_second is None else f"{format_size(per_second)}/s"


def time_left(seconds: Optional[float]) -> str:
    """As "about 2 min left"; empty where it is not known."""
    return "" if seconds is None else f"about {format_duration(max(1, seconds))} left"
