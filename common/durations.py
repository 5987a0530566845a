"""Spans of time as people write them."""

from __future__ import annotations

import re

from common.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def parse_duration(text: str) -> float:
    """Seconds, from how people write them: 30s, 15m, 12h, 7d; UsageError where the text is no time."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", text.lower())
    seconds = float(match[1]) * _SECONDS[match[2]] if match is not None else 0.0
    if seconds <= 0:
        raise UsageError(f"{text!r} is not a time; write it like 30s, 15m, 12h or 7d")
    return seconds
