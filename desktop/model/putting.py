"""The progress of one put: the outcome of each image, and the progress and rate of each device."""

from __future__ import annotations

import enum
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from common.process.events import BytesDone, WaitBegan, WaitEnded, Warned
from common.text import count, printable
from desktop.model.wording import names
from producer.events import (
    Event,
    FailedImage,
    Outcome,
    RecordedSnapshot,
    ShareStep,
    ShareSteps,
    SkippedFile,
    Step,
    StoredImage,
)
from producer.sources import Source

_WINDOW = 5.0  # seconds
_LEAST = 0.5  # seconds needed to estimate a rate
_SHOWN_WARNINGS = 3


class State(enum.Enum):
    WAITING = "waiting"
    SENDING = "sending"
    STORED = "stored"
    DEGRADED = "degraded"  # with fewer shares than there should be
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass
class Item:
    """One file that is to be stored, and its outcome."""

    source: Source
    state: State = State.WAITING
    text: str = ""
    advice: str = ""
    sha256: str = ""

    @property
    def shown(self) -> str:
        return self.source.shown

    @property
    def done(self) -> bool:
        """Whether there is nothing left to send."""
        return self.state in (State.STORED, State.DEGRADED, State.SKIPPED)

    @property
    def resendable(self) -> bool:
        """Whether shares of it found no device, and can be sent again."""
        return self.state is State.DEGRADED or (self.state is State.FAILED and self.source.fault is None)

    def conclude(self, outcome: Outcome) -> None:
        self.advice = ""
        if isinstance(outcome, StoredImage):
            self.sha256 = outcome.sha256.hex()
            self._stored(outcome)
        elif isinstance(outcome, FailedImage):
            text = str(outcome.error).removeprefix(f"{self.shown}: ")  # which is shown beside it
            self.state, self.text, self.advice = State.FAILED, text, outcome.error.advice or ""
        else:
            self.state, self.text = State.SKIPPED, f"{outcome.reason.value}; skipped"

    def _stored(self, image: StoredImage) -> None:
        had = image.n - image.devices.count(None)
        if image.degraded:
            self.state = State.DEGRADED
            self.text = f"only {had} of {image.n} shares found a device; {image.may_lose} may be lost"
            if image.missing:
                self.text += f"; the rest is made when {names(image.missing)} come back"
        else:
            self.state = State.STORED
            how = "was stored already" if image.already_stored else "stored"
            self.text = f"{how}: any {image.k} of {image.n} bring it back"


def unwell_items(items: Sequence[Item]) -> list[Item]:
    """Those that are not stored, or degraded."""
    return [item for item in items if item.state in (State.FAILED, State.DEGRADED)]


def outcome_words(items: Sequence[Item]) -> str:
    """The numbers of images that are stored and degraded, and of files that were skipped."""
    states = Counter(item.state for item in items)
    stored = states[State.STORED] + states[State.DEGRADED]
    parts = [f"{stored} of {count(len(items) - states[State.SKIPPED], 'image')} stored"]
    if states[State.DEGRADED]:
        parts.append(f"{states[State.DEGRADED]} of them with fewer shares")
    if states[State.SKIPPED]:
        parts.append(f"{states[State.SKIPPED]} skipped")
    return ", ".join(parts)


def snapshot_words(recorded: Optional[RecordedSnapshot]) -> str:
    """What a snapshot keeps beside the images; empty where none was recorded."""
    if recorded is None:
        return ""
    lacking = "" if recorded.snapshot.complete else " It lacks what could not be stored."
    return f"Folders, names and dates are in snapshot {recorded.sha256.hex()[:8]}.{lacking}"


def shown_names(items: Sequence[Item]) -> list[str]:
    """The names of items; of equal ones with as much of their folders as distinguishes them."""
    names = [item.source.name for item in items]
    often = {name for name, times in Counter(names).items() if times > 1}
    parts = [Path(item.shown).parts if item.source.name in often else (item.source.name,) for item in items]
    depth = [1] * len(items)
    while True:
        shown = ["/".join(each[-count:]) for each, count in zip(parts, depth)]
        same = {name for name, times in Counter(shown).items() if times > 1}
        again = [i for i, name in enumerate(shown) if name in same and depth[i] < len(parts[i])]
        if not again:
            return shown
        for i in again:
            depth[i] += 1


class Rate:
    """The recent rate in bytes, and an estimate by it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._came: deque[tuple[float, int]] = deque()
        self._started: Optional[float] = None

    def add(self, count: int) -> None:
        """So many bytes came now."""
        now = self._clock()
        if self._started is None:
            self._started = now
        self._came.append((now, count))

    def per_second(self) -> Optional[float]:
        """Bytes a second in the last few seconds; None where it is not known yet."""
        now = self._clock()
        while self._came and self._came[0][0] < now - _WINDOW:
            self._came.popleft()
        if self._started is None:
            return None
        seconds = min(_WINDOW, now - self._started)
        return sum(count for _, count in self._came) / seconds if seconds >= _LEAST else None

    def seconds_for(self, count: int) -> Optional[float]:
        """Estimated seconds for so many bytes; None where the rate is not known."""
        rate = self.per_second()
        return count / rate if rate else None


@dataclass
class DeviceProgress:
    """The progress of one device with its shares."""

    name: str
    speed: Rate
    placed: dict[tuple[str, int], int] = field(default_factory=dict)  # (image, share) → bytes expected of it
    there: dict[tuple[str, int], int] = field(default_factory=dict)  # → bytes acknowledged
    committed: set[tuple[str, int]] = field(default_factory=set)
    lost: dict[tuple[str, int], str] = field(default_factory=dict)  # → why

    @property
    def part(self) -> float:
        """The fraction of bytes that is acknowledged."""
        if self.placed and len(self.committed) == len(self.placed):
            return 1.0
        expected = sum(max(count, self.there.get(key, 0)) for key, count in self.placed.items())
        return min(1.0, sum(self.there.values()) / expected) if expected else 0.0

    @property
    def seconds_left(self) -> Optional[float]:
        left = sum(max(0, count - self.there.get(key, 0)) for key, count in self.placed.items())
        return self.speed.seconds_for(left) if left else None

    def take(self, step: ShareStep) -> None:
        key = (step.shown, step.share)
        if step.step is Step.PLACED:
            self.placed[key] = step.count
            self.there[key] = 0
            self.lost.pop(key, None)
        elif step.step is Step.ACKNOWLEDGED:
            self.there[key] = self.there.get(key, 0) + step.count
            self.speed.add(step.count)
        elif step.step is Step.COMMITTED:
            self.committed.add(key)
        else:
            self.placed.pop(key, None)
            self.there.pop(key, None)
            self.lost[key] = step.why


class Put:
    """One put, of the items that are not done yet."""

    def __init__(self, items: list[Item], clock: Callable[[], float]) -> None:
        self._clock = clock
        self.items = {item.shown: item for item in items}
        self.devices: dict[str, DeviceProgress] = {}
        self.total = sum(item.source.size or 0 for item in items)
        self.sent = 0  # bytes of images that were sent
        self.speed = Rate(clock)
        self.waits_for = ""  # what storing waits for
        self.recorded: Optional[RecordedSnapshot] = None
        self._warnings: list[str] = []

    @property
    def part(self) -> float:
        return min(1.0, self.sent / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> Optional[float]:
        return self.speed.seconds_for(max(0, self.total - self.sent))

    @property
    def warning(self) -> str:
        """The warnings, as text; empty where there are none."""
        more = len(self._warnings) - _SHOWN_WARNINGS
        shown = [text[:1].upper() + text[1:] for text in map(printable, self._warnings[:_SHOWN_WARNINGS])]
        return "\n".join([*shown, f"(and {count(more, 'other warning')})"] if more > 0 else shown)

    def take(self, event: Event) -> None:
        """Apply an event of the producer."""
        if isinstance(event, ShareStep):
            self._come_further(event)
        elif isinstance(event, ShareSteps):
            for step in event.each():
                self._come_further(step)
        elif isinstance(event, BytesDone):
            self.sent += event.count
            self.speed.add(event.count)
        elif isinstance(event, Warned):
            self._warnings.append(event.text)
        elif isinstance(event, WaitBegan):
            self.waits_for = event.what
        elif isinstance(event, WaitEnded):
            self.waits_for = ""
        elif isinstance(event, RecordedSnapshot):
            self.recorded = event
        elif isinstance(event, (StoredImage, FailedImage, SkippedFile)):
            self._conclude(event)

    def _come_further(self, step: ShareStep) -> None:
        if step.shown not in self.items:
            return  # of a tree, or of the snapshot
        device = self.devices.get(step.device)
        if device is None:
            device = self.devices[step.device] = DeviceProgress(step.device, Rate(self._clock))
        device.take(step)
        item = self.items[step.shown]
        if item.state is State.WAITING:
            item.state, item.text = State.SENDING, "on its way"

    def _conclude(self, outcome: Outcome) -> None:
        item = self.items.get(outcome.shown)
        if item is not None:
            item.conclude(outcome)

    def break_off(self) -> None:
        """It was cancelled: items that are not done wait again."""
        for item in self.items.values():
            if item.state is State.SENDING:
                item.state, item.text = State.WAITING, "stopped; it can go on"
