"""What a consumer tells while it restores an image, for whoever shows that. It is told in the event loop's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Union


@dataclass(frozen=True)
class Attempt:
    """An encoding is tried: k of its n shares are needed; the names of the devices that hold them."""

    k: int
    n: int
    devices: list[str]


@dataclass(frozen=True)
class Came:
    """So many bytes more of a device's share, all good."""

    device: str
    count: int


@dataclass(frozen=True)
class Missing:
    """A device's share, or a part of it, is not to be had."""

    device: str
    why: str


News = Union[Attempt, Came, Missing]
Watch = Callable[[News], None]


def nobody(_: News) -> None:
    """Where nobody watches."""
