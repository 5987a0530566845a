"""What the steps of any program tell while they work. They print nothing: its command line or its window shows it.

A program has one callback for all its events. Its own union (`producer.events`, `consumer.events`, `admin.events`) has
these and what it alone tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Union


@dataclass(frozen=True)
class Warned:
    """A person should know of this; the work goes on."""

    text: str


@dataclass(frozen=True)
class BytesExpected:
    """So many bytes of images more are to come, now that it is known."""

    count: int


@dataclass(frozen=True)
class BytesDone:
    """So many bytes more are done."""

    count: int


@dataclass(frozen=True)
class BytesLeft:
    """So many bytes are left, as whoever does the work tells it; more than before where it found more to do."""

    count: int


@dataclass(frozen=True)
class WaitBegan:
    """Nothing can be done until this is over."""

    what: str


@dataclass(frozen=True)
class WaitEnded:
    what: str


Event = Union[Warned, BytesExpected, BytesDone, BytesLeft, WaitBegan, WaitEnded]
Emit = Callable[[Event], None]


def ignore(_: object) -> None:
    """A callback where nobody wants to know."""


@contextmanager
def waiting(emit: Emit, what: str) -> Iterator[None]:
    """Tell of a wait from its beginning to its end."""
    emit(WaitBegan(what))
    try:
        yield
    finally:
        emit(WaitEnded(what))
