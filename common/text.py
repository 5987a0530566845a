"""Text that came from elsewhere: read from what editors and shells write, and made fit to be shown."""

from __future__ import annotations

import codecs
from typing import Final

BYTE_ORDER_MARK: Final = "\ufeff"


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


def printable(text: str) -> str:
    """The text on one line, each character that a terminal would act upon replaced."""
    return "".join(character if character.isprintable() else "�" for character in text)
