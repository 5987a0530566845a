"""Starts the broker as a child process, and anew when it ends as it should not: for machines without systemd.

A peer that is admitted can make libzmq abort the whole process, and can make it grow until it has to end; neither can
be prevented from within. The broker keeps nothing in memory that the devices do not tell it again, so being back soon
is an answer: within two seconds, Python's start included.

    it ends                          then
    by a signal, or exit 1, 3, 7, …  it is started again, at once or, if it did not live long, up to a second later
    with exit 0 or 130               so does the supervisor: somebody asked it to
    with exit 2, 4 or 6              so does the supervisor: wrong usage, a damaged list, not admitted; no better later

The child's stdin is a pipe whose other end only the supervisor has. When that closes the child ends, so asking it to
end and the supervisor's own death, even by kill -9, are the same to it, on Windows too. What the supervisor does not
see is a broker that hangs.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from common.process.program import INTERRUPTED

log = logging.getLogger(__name__)

_FINAL = frozenset({0, 2, 4, 6, INTERRUPTED})
_STEADY = 10.0  # seconds that a child must have lived to be started again without a pause
_FIRST_PAUSE = 0.125  # seconds
_LONGEST_PAUSE = 1.0  # seconds; with Python's start it stays below two
_GRACE = 15.0  # seconds that a child has for ending, before it is killed
_LOOK_EVERY = 0.1  # seconds


def is_final(exit_code: int) -> bool:
    """Whether a broker that ended so is not to be started again; negative codes are signals."""
    return exit_code in _FINAL


def next_pause(pause: float, lived: float) -> float:
    """Seconds to wait before the next start, after `pause` before the last one and a life of `lived` seconds."""
    if lived >= _STEADY:
        return 0.0
    return min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)


def how_it_ended(exit_code: int) -> str:
    """In words, as for a log."""
    if exit_code >= 0:
        return f"with exit code {exit_code}"
    try:
        return f"by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"by signal {-exit_code}"


def supervise(
    command: Sequence[str],
    stopping: threading.Event,
    *,
    what: str = "the broker",
    folder: Optional[Path] = None,
    environment: Optional[Mapping[str, str]] = None,
) -> int:
    """Keep `command` running until it ends for good, or until the event is set; returns the exit code to end with.

    `what` it is, for the log; `folder` and `environment` to run it in, this process's own if left out.
    """
    pause = 0.0
    while not stopping.wait(pause):
        began = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder, env=environment) as child:
            exit_code = _wait_for_end(child, stopping, what)
        if is_final(exit_code):
            return exit_code
        if stopping.is_set():
            return 1
        pause = next_pause(pause, time.monotonic() - began)
        log.warning("%s, process %d, ended %s and is started again", what, child.pid, how_it_ended(exit_code))
    return 0


def _wait_for_end(child: subprocess.Popen[bytes], stopping: threading.Event, what: str) -> int:
    """The exit code of a child that ends by itself, or because the event is set."""
    while not stopping.is_set():
        try:
            return child.wait(_LOOK_EVERY)
        except subprocess.TimeoutExpired:
            continue
    if child.stdin is not None:
        child.stdin.close()
    try:
        return child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        log.warning("%s, process %d, did not end within %d s and is killed", what, child.pid, _GRACE)
        child.kill()
        return child.wait()


def stop_with_supervisor(stopping: threading.Event, descriptor: int) -> None:
    """In the child: set the event once the pipe that `descriptor` reads from is closed at its other end."""

    def watch() -> None:
        try:
            while os.read(descriptor, 1):
                pass
        except OSError:
            log.warning("the pipe to the supervisor is broken")
        stopping.set()

    threading.Thread(target=watch, name="supervisor", daemon=True).start()
