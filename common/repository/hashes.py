"""The hashes by which people name images."""

from __future__ import annotations

import re

from common.errors import UsageError

_HASH = re.compile(r"[0-9a-f]{8,64}")
_FULL = 64  # hex digits


def check_hash(text: str) -> str:
    """A SHA-256 or the beginning of one, as a person gives it; UsageError where it is neither."""
    text = text.strip().lower()
    if _HASH.fullmatch(text) is None:
        raise UsageError(f"{text!r} is not a SHA-256, nor eight or more hex digits that one begins with")
    return text


def is_full(text: str) -> bool:
    return len(text) == _FULL
