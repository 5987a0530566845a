"""Progress and outcome of work on images, as text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Callable, Optional

from admin.events import DeviceFailed
from common.process.events import BytesDone, BytesExpected, BytesLeft, Warned
from common.text import format_duration, format_size, printable
from desktop.model.entries import Tone

_TELL_EVERY = 0.1  # seconds
_RATE_AFTER = 1.0  # seconds until a rate is shown


@dataclass(frozen=True)
class Progress:
    done: int  # bytes
    total: int
    seconds: float = 0.0  # since it began

    @property
    def fraction(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def words(self) -> str:
        parts = [f"{format_size(self.done)} of {format_size(self.total)}"]
        if self.seconds >= _RATE_AFTER and self.done:
            rate = self.done / self.seconds
            parts.append(f"{format_size(int(rate))}/s")
            if self.done < self.total:
                parts.append(f"about {format_duration(int((self.total - self.done) / rate) + 1)} left")
        return " · ".join(parts)


class Counter:
    """Counts bytes in the thread of the work, and reports the progress ten times a second."""

    def __init__(self, tell: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._began = self._told = clock()
        self._done = self._total = 0

    def take(self, event: object) -> None:
        """Apply an event about bytes."""
        if isinstance(event, BytesExpected):
            self._total += event.count
            self._say(now=True)
        elif isinstance(event, BytesDone):
            self._done += event.count
            self._say(now=self._done >= self._total)
        elif isinstance(event, BytesLeft):
            self._total = max(self._total, self._done + event.count)
            self._done = self._total - event.count
            self._say()

    def _say(self, now: bool = False) -> None:
        at = self._clock()
        if now or at - self._told >= _TELL_EVERY:
            self._told = at
            self._tell(Progress(self._done, self._total, at - self._began))


@dataclass(frozen=True)
class Finding:
    """A problem of one image or device, or its outcome."""

    name: str
    words: str
    tone: Tone


class Warnings:
    """Collects warnings, each once, as a finding. `devices`: the names of those whose requests failed."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.devices: set[str] = set()

    def take(self, event: object) -> None:
        """Apply a warning, in the thread of the work."""
        if isinstance(event, DeviceFailed):
            self.devices.add(event.device)
            self._add(event.device, event.why)
        elif isinstance(event, Warned):
            self._add("Warning", event.text)

    def _add(self, name: str, words: str) -> None:
        finding = Finding(printable(name), printable(words), Tone.NOTICE)
        if finding not in self.findings:
            self.findings.append(finding)


@dataclass(frozen=True)
class Report:
    """The outcome of work on images: a summary, and the findings."""

    summary: str
    tone: Tone
    findings: list[Finding]
    at: Optional[float] = None  # Unix seconds; when it was found

    @property
    def words(self) -> str:
        """The summary, and its time."""
        if self.at is None:
            return self.summary
        return f"{self.summary} As of {datetime.fromtimestamp(self.at):%H:%M}."

    def noting(self, notices: Sequence[Finding]) -> Report:
        """The same with these findings appended; where there are any, it is not GOOD."""
        tone = Tone.NOTICE if notices and self.tone is Tone.GOOD else self.tone
        return replace(self, tone=tone, findings=[*self.findings, *notices])
