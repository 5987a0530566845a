"""Text that came from elsewhere, made fit to be shown: names and messages of other machines may hold anything."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line, each character that a terminal would act upon replaced."""
    return "".join(character if character.isprintable() else "�" for character in text)
