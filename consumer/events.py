"""The consumer's events: the outcome of each image, and what its devices gave.

They are emitted in the event loop's thread. An image is named by its SHA-256 in hexadecimal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Union

from common.errors import TesseraError
from common.process import events


@dataclass(frozen=True)
class Restored:
    """An image that was restored and proven."""

    sha256: str
    name: str
    size: int  # bytes
    path: Optional[Path]  # None for stdout
    seconds: float
    troubles: list[str] = field(default_factory=list)  # devices and what is wrong with their shares

    def as_json(self) -> dict[str, object]:
        return {
            "sha256": self.sha256,
            "path": None if self.path is None else str(self.path),
            "name": self.name,
            "bytes": self.size,
            "seconds": round(self.seconds, 4),
            "troubles": self.troubles,
        }


@dataclass(frozen=True)
class NotRestored:
    """An image that was not restored; or several, as the error says, whose hashes are not known."""

    sha256: str  # or the beginning of one, as it was given; empty where none is known
    error: TesseraError


@dataclass(frozen=True)
class Attempt:
    """An encoding is tried: k of its n shares are needed."""

    sha256: str
    k: int
    n: int
    devices: list[str]  # the names of those that hold them
    away: list[str]  # of these, those that are not connected


@dataclass(frozen=True)
class BytesReceived:
    """So many more bytes of a device's share, all good."""

    sha256: str
    device: str
    count: int


@dataclass(frozen=True)
class Missing:
    """A device's share, or a part of it, is missing or bad; others are used."""

    sha256: str
    device: str
    why: str


@dataclass(frozen=True)
class Changed:
    """Something of a snapshot is not restored as it was: a name, a mode; `path`: empty where it is several."""

    path: str
    why: str


Event = Union[events.Event, Restored, NotRestored, Attempt, BytesReceived, Missing, Changed]
Emit = Callable[[Event], None]
