"""The producer's events: the outcome of each source, the steps of each share. And when an image counts as stored.

They are emitted in the event loop's thread; a `Warned` may come from another.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, Union

from common.errors import IntegrityError, NoRoomError, NotEnoughError, TesseraError, UnstorableError
from common.process import events
from common.protocol.messages import MAX_SHARES, Code
from common.vault.snapshot import Snapshot
from common.vault.stamp import Stamp

ACCEPT = "--accept-degraded; what is missing is made when its devices are back"
AGAIN = "run the same command again to go on where it stopped"


@dataclass(frozen=True)
class StoredImage:
    sha256: bytes
    shown: str  # the path as the user gave it
    size: int  # bytes
    k: int
    n: int
    devices: list[Optional[str]]  # names in the order of shares; None where a share found no device
    already_stored: bool
    seconds: float
    is_image: Optional[bool]  # None where it was not looked at, since it is stored already
    asked: Optional[tuple[int, int]] = None  # k, n: where it is stored already, and weaker than it would be now
    missing: tuple[str, ...] = ()  # names of devices that are away, where a share found no device
    stamp: Optional[Stamp] = None  # of the file as it was read; None of what is none
    may_be_pruned: bool = False  # no snapshot of this run names it, and nothing else keeps it, as far as is known here

    @property
    def degraded(self) -> bool:
        return None in self.devices

    @property
    def may_lose(self) -> int:
        """How many of the devices that have it may be lost now."""
        return self.n - self.devices.count(None) - self.k

    def as_json(self) -> dict[str, object]:
        return {
            "state": "stored",
            "sha256": self.sha256.hex(),
            "path": self.shown,
            "bytes": self.size,
            "k": self.k,
            "n": self.n,
            "devices": self.devices,
            "already_stored": self.already_stored,
            "degraded": self.degraded,
            "missing_devices": list(self.missing),
            "may_lose": self.may_lose,
            "could_be_stronger": self.asked is not None,
            "may_be_pruned": self.may_be_pruned,
            "seconds": round(self.seconds, 4),
            "is_image": self.is_image,
        }


@dataclass(frozen=True)
class FailedImage:
    shown: str
    error: TesseraError

    def as_json(self) -> dict[str, object]:
        return {"state": "failed", "path": self.shown, "error": str(self.error), "exit_code": self.error.exit_code}


class LeftOut(enum.Enum):
    """Why something is not stored, without an error."""

    NO_IMAGE = "no image that Tessera knows"  # where only images are wanted
    LINK_TO_FOLDER = "link to a folder"
    EMPTY_FOLDER = "empty folder"
    PIPE = "named pipe"
    SOCKET = "socket"
    DEVICE = "device"
    UNFINISHED = "left unfinished by a restore"
    OWN = "what Tessera itself keeps"
    CACHE = "marked as a cache by CACHEDIR.TAG"
    NO_BACKUP = "marked by .nobackup"
    OTHER_FILE_SYSTEM = "on another file system"
    EXCLUDED = "excluded"
    LOOP = "a folder that it is in, again"
    BROKEN_LINK = "link that leads nowhere"


@dataclass(frozen=True)
class SkippedFile:
    shown: str
    reason: LeftOut

    def as_json(self) -> dict[str, object]:
        return {"state": "skipped", "path": self.shown, "reason": self.reason.value}


@dataclass(frozen=True)
class RecordedSnapshot:
    """The snapshot of a run is stored; `degraded`: it, or a tree of it, has fewer shares than it should."""

    sha256: bytes
    snapshot: Snapshot
    degraded: bool = False

    def as_json(self) -> dict[str, object]:
        snapshot = self.snapshot
        return {
            "state": "snapshot",
            "id": self.sha256.hex(),
            "label": snapshot.label,
            "files": snapshot.files,
            "folders": snapshot.folders,
            "bytes": snapshot.size,
            "complete": snapshot.complete,
            "degraded": self.degraded,
        }


Outcome = Union[StoredImage, FailedImage, SkippedFile]


class Step(enum.Enum):
    PLACED = "placed"  # a share goes to a device, for the first time or after another one lost it
    ACKNOWLEDGED = "acknowledged"  # so many bytes more of it are there
    COMMITTED = "committed"  # it is on the device's disk
    LOST = "lost"  # the device did not take it, or failed


@dataclass(frozen=True)
class ShareStep:
    """A step of one share of one image."""

    shown: str  # the source's path, as the user gave it
    share: int
    device: str  # its name
    step: Step
    count: int = 0  # bytes: of the whole share where it is placed (0 for a stream), else those that are acknowledged
    why: str = ""  # where it is lost


@dataclass(frozen=True)
class ShareSteps:
    """The same step of shares of several images, which go to one device together."""

    shares: Sequence[tuple[str, int, int]]  # of each the source's path, its number, its bytes
    device: str  # its name
    step: Step
    why: str = ""  # where they are lost

    def each(self) -> Iterator[ShareStep]:
        """The step of each share by itself."""
        counted = self.step in (Step.PLACED, Step.ACKNOWLEDGED)
        for shown, share, count in self.shares:
            yield ShareStep(shown, share, self.device, self.step, count if counted else 0, self.why)


@dataclass(frozen=True)
class Interrupted:
    """A put was interrupted, and what was sent is kept: storing the source again resumes it."""

    shown: str


Event = Union[events.Event, Outcome, RecordedSnapshot, ShareStep, ShareSteps, Interrupted]
Emit = Callable[[Event], None]


def shares_needed(k: int, n: int, *, accept_degraded: bool = False) -> int:
    """The committed shares that an image needs to count as stored: k + 1, or n if that is less."""
    return k if accept_degraded else min(k + 1, n)


def too_few(
    shown: str, had: int, needed: int, reasons: dict[int, Code], k: int = MAX_SHARES, broker: str = "the broker"
) -> TesseraError:
    """The error of an image that could not be stored; `reasons`: of the shares that found no device.

    `k`: how many would do with --accept-degraded. `broker`: the address of the one that it went through.
    """
    text = f"{shown}: only {had} of the at least {needed} shares needed could be stored; it was not stored"
    full = sum(code in (Code.NO_ROOM, Code.READ_ONLY) for code in reasons.values())
    if full and (full == len(reasons) or had + full >= needed):
        return NoRoomError(f"{text}: the devices have no room")
    altered = sum(code is Code.MALFORMED for code in reasons.values())
    if altered and had + altered >= needed:
        return IntegrityError(
            f"{text}: {altered} devices got other blocks than were sent by way of the broker at {broker}",
            advice="that broker, or as many devices, are faulty or lie; store it by way of another broker",
        )
    return NotEnoughError(text, advice=f"to store it all the same: {ACCEPT}" if k <= had else None)


def nothing_stored(argument: str) -> FailedImage:
    """What came of an argument in which nothing was to be stored."""
    return FailedImage(argument, UnstorableError(f"{argument}: nothing of it was stored"))
