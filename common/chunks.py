"""Many things, some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in their order, `size` at a time; fewer at the end."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
