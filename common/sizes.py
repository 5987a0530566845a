"""Numbers of bytes as people write them."""

from __future__ import annotations

import re

from common.errors import UsageError

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


def parse_size(text: str) -> int:
    """500G, 1.5T, 200MiB or plain 1000 as bytes; UsageError where the text is no size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", text.upper())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"{text!r} is not a size; write it like 500G or 200MiB")
    return int(float(match[1]) * _UNITS[match[2]])
