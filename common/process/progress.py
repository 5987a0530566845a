"""The command line's end of a program's events: warnings are lines on stderr, and how far it is shows there meanwhile.

Progress is shown on a terminal only, and of what takes longer than a second: a bar with rate and estimate where bytes
are counted, and a line that says what is being waited for where they are not.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Optional, TextIO, TypeVar

from common.process.events import BytesDone, BytesExpected, BytesLeft, WaitBegan, WaitEnded, Warned
from common.process.program import warn
from common.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

_SHOW_AFTER = 1.0  # seconds
P = TypeVar("P", bound="Printer")


class Waiting:
    """Says what is waited for, if that takes longer than a second; the line is gone when the waiting is over.

    By a thread, since what is waited for may keep the event loop, or have none.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._over = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> Waiting:
        stream = sys.stderr
        if stream is not None and stream.isatty():
            self._thread = threading.Thread(target=self._tell, args=(stream,), name="waiting", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """What was waited for is here; may be called again."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _tell(self, stream: TextIO) -> None:
        if self._over.wait(_SHOW_AFTER):
            return
        columns = shutil.get_terminal_size().columns
        line = f"{printable(self._what)} …"[: columns - 1]
        # Blanks in place of an escape sequence, which an older Windows console would show.
        blank = " " * min(2 * len(line), columns - 1)  # a character may be two columns wide
        stream.write(f"\r{line}")
        stream.flush()
        self._over.wait()
        stream.write(f"\r{blank}\r")
        stream.flush()


class ByteProgress:
    """Counts bytes of images; `total` is None where it is not known."""

    def __init__(self, what: str, total: Optional[int]) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._started = time.monotonic()
        self._progress: Optional[Progress] = None

    def __enter__(self) -> ByteProgress:
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Nothing more comes: the bar is gone."""
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
            # Else rich prints above the bar, on the terminal, what was to go to a file: `producer.py … > sums`.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self._task = self._progress.add_task(self._what, total=self._total, completed=self._done)
        self._progress.start()


class Printer:
    """Shows what is told by the steps of any program; `doing` is what a bar says of the bytes."""

    def __init__(self, doing: str) -> None:
        self._bar = ByteProgress(doing, None)
        self._waits: dict[str, Waiting] = {}  # by what is waited for

    def __enter__(self: P) -> P:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.end()
        for what in list(self._waits):
            self._end_wait(what)

    def __call__(self, event: object) -> None:
        """A program's own events are for its subclass."""
        if isinstance(event, Warned):
            warn(event.text)
        elif isinstance(event, BytesExpected):
            self._bar.expect(event.count)
        elif isinstance(event, BytesDone):
            self._bar.advance(event.count)
        elif isinstance(event, BytesLeft):
            self._bar.remain(event.count)
        elif isinstance(event, WaitBegan):
            if event.what not in self._waits:  # several may wait for the same
                self._waits[event.what] = Waiting(event.what).__enter__()
        elif isinstance(event, WaitEnded):
            self._end_wait(event.what)

    def _end_wait(self, what: str) -> None:
        wait = self._waits.pop(what, None)
        if wait is not None:
            wait.end()
