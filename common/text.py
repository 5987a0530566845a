"""Text that people write and read: decoded from files, made printable; sizes, times and the hashes of images."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, TypeVar

from common.errors import UsageError

M = TypeVar("M")

_HASH = re.compile(r"[0-9a-f]{8,64}")
_FULL = 64  # hex digits
BYTE_ORDER_MARK: Final = "\ufeff"
_SHOWN_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
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


def decoded(content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 where a byte-order mark says so, as Notepad and PowerShell write it.

    The mark is no part of the text. UnicodeDecodeError where it is neither.
    """
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf_16 else "utf-8-sig")


def as_typed(text: str) -> str:
    """The text as a keyboard gives it: without a byte-order mark before it, and one line end behind it."""
    text = text.removeprefix(BYTE_ORDER_MARK)
    for end in ("\r\n", "\n", "\r"):
        if text.endswith(end):
            return text[: -len(end)]
    return text


def valid_unicode(text: str) -> str:
    """A file name as text that can be encoded; names on disk may have bytes that are no Unicode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def printable(text: str) -> str:
    """The text on one line, each character that a terminal would act upon replaced."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "�" for character in text)


def parse_duration(text: str) -> float:
    """Seconds, from how people write them: 30s, 15m, 12h, 7d; UsageError where the text is no time."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", text.lower())
    seconds = float(match[1]) * _SECONDS[match[2]] if match is not None else 0.0
    if seconds <= 0:
        raise UsageError(f"{text!r} is not a time; write it like 30s, 15m, 12h or 7d")
    return seconds


def parse_size(text: str) -> int:
    """500G, 1.5T, 200MiB or plain 1000 as bytes; UsageError where the text is no size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", text.upper())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"{text!r} is not a size; write it like 500G or 200MiB")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_part(text: str) -> Fraction:
    """90% as 9/10; UsageError where the text is no percentage above 0 and up to 100."""
    match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,9})?)\s*%\s*", text)
    part = Fraction(match[1]) / 100 if match is not None else Fraction(0)
    if not 0 < part <= 1:
        raise UsageError(f"{text!r} is not a part of a whole; write it like 90%")
    return part


def count(number: int, what: str) -> str:
    """A number and a noun: "1 image", "3,000 images"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def format_size(size: float) -> str:
    """Bytes as a person reads them: "999 bytes", "2.4 MB"."""
    unit = 0
    while size >= 999.5 and unit < len(_SHOWN_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    if unit == 0:
        return "1 byte" if round(size) == 1 else f"{size:.0f} bytes"
    return f"{size:.0f} {_SHOWN_UNITS[unit]}" if size >= 99.5 else f"{size:.1f} {_SHOWN_UNITS[unit]}"


def format_duration(seconds: float) -> str:
    """A time as people say it: 40 s, 12 min, 5 h, 3 days."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds // 86400)} days"


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
