"""Shows a program's events at a command line: warnings as lines on stderr, and progress.

Progress is shown on a terminal only, and of what takes longer than a second: a bar with rate and estimate where bytes
are counted, and a line that says what is being waited for where they are not.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Optional, TextIO, TypeVar

from common.process.events import BytesDone, BytesExpected, BytesLeft, WaitBegan, WaitEnded, WaitGoesOn, Warned
from common.process.program import warn
from common.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

_SHOW_AFTER = 1.0  # seconds
_SHOW_AGAIN = 0.5
P = TypeVar("P", bound="Printer")


class Waiting:
    """Shows a line of what is waited for, from a second on until it is over.

    In a thread, since the wait may block the event loop, or have none.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.how_far = ""
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
        """The wait is over; may be called again."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _tell(self, stream: TextIO) -> None:
        if self._over.wait(_SHOW_AFTER):
            return
        columns = shutil.get_terminal_size().columns
        blank = ""
        while True:
            line = f"{printable(self._what)} … {self.how_far}".rstrip()[: columns - 1]
            stream.write(f"\r{line}")
            stream.flush()
            # Blanks in place of an escape sequence, which an older Windows console would show.
            blank = " " * max(len(blank), min(2 * len(line), columns - 1))  # a character may be two columns wide
            if self._over.wait(_SHOW_AGAIN):
                break
        stream.write(f"\r{blank}\r")
        stream.flush()


class Printer:
    """Shows the events of every program; `doing` is the bar's label."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._total: Optional[int] = None  # bytes; None where it is not known
        self._done = 0
        self._started: Optional[float] = None  # when the first bytes were told of
        self._bar: Optional[Progress] = None
        self._waits: dict[str, tuple[Waiting, int]] = {}  # by what is waited for, and by how many

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        for wait, _waiters in self._waits.values():
            wait.end()
        self._waits.clear()

    def __call__(self, event: object) -> None:
        """A program's own events are for its subclass."""
        if isinstance(event, Warned):
            warn(event.text)
        elif isinstance(event, BytesExpected):
            self._expect(event.count)
        elif isinstance(event, BytesDone):
            self._advance(event.count)
        elif isinstance(event, BytesLeft):
            done = (self._total or 0) - self._done - event.count
            if done < 0:
                self._expect(-done)
            self._advance(max(0, done))
        elif isinstance(event, WaitBegan):
            wait, waiters = self._waits.get(event.what) or (Waiting(event.what).__enter__(), 0)
            self._waits[event.what] = (wait, waiters + 1)
        elif isinstance(event, WaitGoesOn) and event.what in self._waits:
            self._waits[event.what][0].how_far = event.how_far
        elif isinstance(event, WaitEnded):
            self._end_wait(event.what)

    def _end_wait(self, what: str) -> None:
        if what not in self._waits:
            return
        wait, waiters = self._waits.pop(what)
        if waiters > 1:
            self._waits[what] = (wait, waiters - 1)
        else:
            wait.end()

    def _expect(self, count: int) -> None:
        self._begin()
        self._total = (self._total or 0) + count
        if self._bar is not None:
            self._bar.update(self._task, total=self._total)

    def _advance(self, count: int) -> None:
        began = self._begin()
        self._done += count
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif sys.stderr.isatty() and time.monotonic() - began >= _SHOW_AFTER:
            self._show_bar()

    def _begin(self) -> float:
        """The time of the first bytes: typing a passphrase before does not count."""
        if self._started is None:
            self._started = time.monotonic()
        return self._started

    def _show_bar(self) -> None:
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

        self._bar = Progress(
            TextColumn(self._doing),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            # Else rich prints above the bar, on the terminal, what was to go to a file: `producer.py … > sums`.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self._task = self._bar.add_task(self._doing, total=self._total, completed=self._done)
        self._bar.start()
