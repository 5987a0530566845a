"""The restoring of a folder of a snapshot: how far it is, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from common.process.events import BytesDone, Warned
from common.text import count, format_size, printable
from common.vault.tree import EntryType
from consumer.events import Changed, Missing, NotRestored, Restored
from consumer.snapshots import KeptSnapshot, Listed
from desktop.model.entries import Tone
from desktop.model.report import Finding, Report
from desktop.model.wording import names

_TELL_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class RestoreProgress:
    restored: int  # files
    files: int
    fetched: int  # bytes from devices; what was there already costs none

    @property
    def words(self) -> str:
        return f"{self.restored:,} of {count(self.files, 'file')} · {format_size(self.fetched)} fetched"


class FolderRestore:
    """Takes the consumer's events in the thread of the work, and tells the progress ten times a second."""

    def __init__(self, tell: Callable[[RestoreProgress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._told = clock()
        self._files = self._restored = self._fetched = self._failed = self._renamed = 0
        self._findings: list[Finding] = []
        self._lacking: set[str] = set()

    def expect(self, entries: Sequence[Listed]) -> None:
        self._files = sum(each.entry.type is EntryType.FILE for each in entries)

    def take(self, event: object) -> None:
        if isinstance(event, BytesDone):
            self._fetched += event.count
        elif isinstance(event, Restored):
            self._restored += 1
        elif isinstance(event, NotRestored):
            self._failed += 1
            self._find("Not restored", str(event.error), Tone.ALARM)
        elif isinstance(event, Changed):
            self._renamed += bool(event.path)
            self._find(event.path or "Not as it was", event.why, Tone.NOTICE)
        elif isinstance(event, Warned):
            self._find("Note", event.text, Tone.NOTICE)
        elif isinstance(event, Missing):
            self._lacking.add(event.device)
        now = self._clock()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            self._tell(RestoreProgress(self._restored, self._files, self._fetched))

    def _find(self, name: str, words: str, tone: Tone) -> None:
        self._findings.append(Finding(printable(name), printable(words), tone))

    def report(self, kept: KeptSnapshot, folder: str) -> Report:
        """What came of it: all that failed first, then what is not as it was."""
        parts = [f"{self._restored:,} of {count(self._files, 'file')} restored in {folder}."]
        if self._failed:
            parts.append(f"{self._failed:,} could not be.")
        if self._renamed:
            parts.append(f"{count(self._renamed, 'name')} had to be changed.")
        if self._lacking:
            parts.append(f"Shares were missing or damaged on {names(sorted(self._lacking))}.")
        if not kept.snapshot.complete:
            parts.append(f"The snapshot is incomplete: {kept.snapshot.failed:,} could not be stored when it was taken.")
        all_there = self._restored == self._files and not self._failed
        tone = Tone.ALARM if not all_there else Tone.GOOD if len(parts) == 1 and not self._findings else Tone.NOTICE
        return Report(" ".join(parts), tone, sorted(self._findings, key=lambda finding: finding.tone is not Tone.ALARM))
