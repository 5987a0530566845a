"""Progress on stderr: a bar with rate and estimate on a terminal, for what takes longer than a second; else nothing."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from rich.progress import Progress

_SHOW_AFTER = 1.0  # seconds


class ByteProgress:
    """Counts bytes of images; `total` is None where it is not known."""

    def __init__(self, what: str, total: Optional[int]) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._started = time.monotonic()
        self._progress: Optional[Progress] = None

    def __enter__(self) -> ByteProgress:
        return self

    def __exit__(
        self,
        _type: Optional[type[BaseException]],
        _error: Optional[BaseException],
        _traceback: Optional[TracebackType],
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def expect(self, count: int) -> None:
        """So many bytes more are to come, now that it is known."""
        self._total = (self._total or 0) + count
        if self._progress is not None:
            self._progress.update(self._task, total=self._total)

    def advance(self, count: int) -> None:
        """So many bytes are done."""
        self._done += count
        if self._progress is None:
            if not sys.stderr.isatty() or time.monotonic() - self._started < _SHOW_AFTER:
                return
            self._begin()
        else:
            self._progress.update(self._task, completed=self._done)

    def remain(self, count: int) -> None:
        """So many bytes are left, as whoever does the work tells it; more than before where it found more to do."""
        done = (self._total or 0) - self._done - count
        if done < 0:
            self.expect(-done)
            done = 0
        self.advance(done)

    def _begin(self) -> None:
        # Here, since it takes longer to import than a photograph to store, and most runs show no bar.
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn(self._what),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(self._what, total=self._total, completed=self._done)
        self._progress.start()
