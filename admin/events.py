"""The events of administration: the outcome of each image, and some of producer and consumer.

An image is named by its SHA-256 in hexadecimal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Union

from common.process import events
from common.repository.images import Held
from consumer.events import Missing
from producer.events import ShareStep


@dataclass(frozen=True)
class Changed:
    """An image is now as it was asked for."""

    sha256: str
    done: str  # as "deleted"


@dataclass(frozen=True)
class NotChanged:
    """An image is as it was."""

    sha256: str
    why: str


@dataclass(frozen=True)
class DeviceFailed:
    """A request to a device failed; the work goes on with the others."""

    device: str  # its name
    why: str


@dataclass(frozen=True)
class Stalled(events.Warned):
    """No progress for some time."""


@dataclass(frozen=True)
class Repaired:
    """The outcome of the repair of an image that lacked something."""

    image: Held
    repaired: bool
    text: str  # follows its name or SHA-256
    exit_code: int = 0


@dataclass(frozen=True)
class NothingToDo:
    """All images are as they were asked for already."""

    text: str


Event = Union[events.Event, Changed, NotChanged, DeviceFailed, Stalled, Repaired, NothingToDo, ShareStep, Missing]
Emit = Callable[[Event], None]
