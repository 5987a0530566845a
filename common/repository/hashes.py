"""The hashes by which people name images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from common.errors import UsageError

_HASH = re.compile(r"[0-9a-f]{8,64}")
_FULL = 64  # hex digits

M = TypeVar("M")


def check_hash(text: str) -> str:
    """A SHA-256 or the beginning of one, as a person gives it; UsageError where it is neither."""
    text = text.strip().lower()
    if _HASH.fullmatch(text) is None:
        raise UsageError(f"{text!r} is not a SHA-256, nor eight or more hex digits that one begins with")
    return text


def is_full(text: str) -> bool:
    return len(text) == _FULL


def only_one(matches: Sequence[M], prefix: str) -> M:
    """The one image of these, at least one, whose SHA-256 begins so; UsageError where there are several."""
    if len(matches) > 1:
        raise UsageError(f"{prefix} is the beginning of {len(matches)} images' SHA-256; give more of its digits")
    return matches[0]
