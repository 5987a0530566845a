"""What is not stored though it was found: patterns in git's syntax (gitignore(5)), the last one that matches counts."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UsageError
from common.files import read_limited, reading_text
from common.text import decoded

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_MAX_FILE = 1 << 20  # bytes


class Excluded:
    """Patterns with a slash, but at their end, are of paths below an argument; the others of names, also its own.

    `*` by itself is all that is below.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        """UsageError where one is no pattern."""
        names = [each for each in patterns if "/" not in _of_folder(each) and _of_folder(each).strip("!*")]
        self._below = _specs(patterns)
        self._names = _specs(names)

    def has(self, path: str, *, is_folder: bool) -> bool:
        """Whether this is excluded, by its path below an argument, where no folder above it is."""
        return self._below[is_folder].match_file(path)

    def has_argument(self, name: str, *, is_folder: bool) -> bool:
        return self._names[is_folder].match_file(name)


def _specs(patterns: Sequence[str]) -> tuple[GitIgnoreSpec, GitIgnoreSpec]:
    """What files are matched with, and what folders are.

    pathspec is made for files: since 1.0 a folder's path does not match `!*/` behind `*`. So it is asked about a folder
    as about a file, with patterns as they are for files.
    """
    from pathspec import GitIgnoreSpec  # loading it takes 80 ms

    try:
        return GitIgnoreSpec.from_lines(patterns), GitIgnoreSpec.from_lines(map(_of_folder, patterns))
    except (ValueError, re.error) as error:
        raise UsageError(f"what is to be excluded cannot be read: {error}") from None


def _of_folder(pattern: str) -> str:
    """A pattern that matches folders only without the slash that says so; others as they are."""
    text = pattern.rstrip()
    return text[:-1] if text.endswith("/") and text not in ("/", "!/") else pattern


def read_patterns(file: Path) -> list[str]:
    """The lines of a file of patterns, which may have names of any bytes; errors as of `reading_text`."""
    with reading_text(file):
        content = read_limited(file, _MAX_FILE)
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return decoded(content).splitlines()
        return [
            os.fsdecode(line) for line in content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").split(b"\n")
        ]


def as_pattern(glob: str) -> str:
    """A pattern of the command line as a line of such a file, where `#` begins a remark."""
    return f"\\{glob}" if glob.startswith("#") else glob
