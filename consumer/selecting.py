"""Which images of a vault are listed or restored: by hashes from stdin, by name, by when they were taken."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Optional, Union

from common.errors import IntegrityError, NotFoundError, UsageError
from common.text import check_hash

if TYPE_CHECKING:
    from common.vault.index_rows import Described
    from common.vault.mapping import Mapping

STDIN = "-"
_BOUND = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}(:[0-9]{2}(:[0-9]{2})?)?)?)?)?")
_FIRST = "0001-01-01T00:00:00"  # what a bound leaves out


@dataclass(frozen=True)
class Lines:
    """The hashes that lines of text begin with, and what is wrong with the other lines."""

    hashes: list[str]
    errors: list[UsageError]


def read_hashes() -> Lines:
    """The hashes on stdin, one a line, or what sha256sum, the producer or `--list` print; NotFoundError where none is.

    IntegrityError where stdin cannot be read.
    """
    try:
        lines = sys.stdin.buffer.read().split(b"\n") if sys.stdin is not None else []
    except OSError as error:
        raise IntegrityError(f"stdin cannot be read: {error.strerror or error}") from None
    found = parse_hashes(line.decode("ascii", "replace") for line in lines)
    if not found.hashes and not found.errors:
        raise NotFoundError("stdin: no hash is named in it", advice="a command before the | may have failed")
    return found


def parse_hashes(lines: Iterable[str]) -> Lines:
    """What is behind a hash is its name, and a backslash before it says that this is escaped (sha256sum)."""
    found = Lines([], [])
    for number, line in enumerate(lines, 1):
        words = line.removeprefix("\\").split(maxsplit=1)
        try:
            found.hashes.extend(map(check_hash, words[:1]))
        except UsageError as error:
            found.errors.append(UsageError(f"line {number:,} of stdin: {error}"))
    return found


@dataclass(frozen=True)
class Period:
    """From one bound to another, both within; each is a year, month, day, hour, minute or second, or empty."""

    first: str
    last: str

    def has(self, moment: str) -> bool:
        """`moment`: by the clock where it was taken, whatever its offset."""
        return self.first <= moment and (not self.last or moment[: len(self.last)] <= self.last)


@dataclass(frozen=True)
class Selection:
    """`name`: a pattern as shells have it, upper and lower case told apart. What is None selects all."""

    name: Optional[str] = None
    taken: Optional[Period] = None

    def takes(self, mapping: Union[Mapping, Described]) -> bool:
        return self.matches(mapping.name, mapping.taken_at)

    def matches(self, name: str, taken_at: Optional[str]) -> bool:
        """Whether it takes a file of this name, which was taken then; None where that is not known."""
        if self.name is not None and not fnmatchcase(name, self.name):
            return False
        return self.taken is None or (taken_at is not None and self.taken.has(taken_at))

    def undated(self, mappings: Iterable[Union[Mapping, Described]]) -> int:
        """Of how many of them nobody can say whether they were taken then."""
        if self.taken is None:
            return 0
        named = Selection(self.name)
        return sum(mapping.taken_at is None and named.takes(mapping) for mapping in mappings)

    def __bool__(self) -> bool:
        return self != Selection()


def parse_period(text: str) -> Period:
    """`2019-06..2019-08-15`, `2019..`, `..2019`, or one bound for all within it; UsageError for anything else."""
    first, dots, last = text.partition("..")
    bounds = [bound for bound in (first, last) if bound]
    if not bounds or not all(map(_is_moment, bounds)):
        raise UsageError(
            f"--taken {text}: no period", advice="give FROM..TO, each as 2019, 2019-07, 2019-07-14 or 2019-07-14T18:00"
        )
    period = Period(first, last if dots else first)
    if first and last and not period.has(first):
        raise UsageError(f"--taken {text}: it ends before it begins")
    return period


def _is_moment(bound: str) -> bool:
    if _BOUND.fullmatch(bound) is None:
        return False
    try:
        datetime.fromisoformat(bound + _FIRST[len(bound) :])
    except ValueError:
        return False
    return True
