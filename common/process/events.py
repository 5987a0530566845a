"""The events of every program. What works emits them and prints nothing; a command line or a window shows them.

A program has one callback for all its events. Its union (`producer.events`, `consumer.events`, `admin.events`) has
these and its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Union


@dataclass(frozen=True)
class Warned:
    """A warning for the user; the work goes on."""

    text: str


@dataclass(frozen=True)
class BytesExpected:
    """So many more bytes of images are to be done."""

    count: int


@dataclass(frozen=True)
class BytesDone:
    """So many more bytes are done."""

    count: int


@dataclass(frozen=True)
class BytesLeft:
    """So many bytes are left, as the steward reports; more than before where it found more to do."""

    count: int


@dataclass(frozen=True)
class WaitBegan:
    """The work waits for this."""

    what: str


@dataclass(frozen=True)
class WaitGoesOn:
    """How far a wait has come."""

    what: str
    how_far: str


@dataclass(frozen=True)
class WaitEnded:
    what: str


Event = Union[Warned, BytesExpected, BytesDone, BytesLeft, WaitBegan, WaitGoesOn, WaitEnded]
Emit = Callable[[Event], None]


def ignore(_: object) -> None:
    """The callback that drops every event."""


@contextmanager
def waiting(emit: Emit, what: str) -> Iterator[None]:
    """Emit the beginning and the end of a wait."""
    emit(WaitBegan(what))
    try:
        yield
    finally:
        emit(WaitEnded(what))
