"""What a producer tells of each share while it stores, for whoever shows it. It is told in the event loop's thread."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Callable


class Step(enum.Enum):
    PLACED = "placed"  # a share goes to a device, for the first time or after another one lost it
    ACKNOWLEDGED = "acknowledged"  # so many bytes more of it are there
    COMMITTED = "committed"  # it is on the device's disk
    LOST = "lost"  # the device did not take it, or failed


@dataclass(frozen=True)
class ShareStep:
    """One share of one image came one step further."""

    shown: str  # the source's path, as the user gave it
    share: int
    device: str  # its name
    step: Step
    count: int = 0  # bytes: of the whole share where it is placed (0 for a stream), else those that are acknowledged
    why: str = ""  # where it is lost


Watch = Callable[[ShareStep], None]


def nobody(_: ShareStep) -> None:
    """Where nobody watches."""
