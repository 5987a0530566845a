"""A virtual screen (Xvfb), for the tests, the bench and the screenshots of the desktop app."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import UsageError

_END_TIMEOUT = 10.0  # seconds


@contextmanager
def virtual_screen(size: str) -> Iterator[str]:
    """The name of a display of Xvfb's of this size ("1280x720"), as DISPLAY takes it; UsageError without Xvfb."""
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        raise UsageError("there is no Xvfb", advice="Debian, Ubuntu: apt install xvfb")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        [xvfb, "-displayfd", str(writing), "-screen", "0", f"{size}x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="ascii") as told:
            display = f":{told.readline().strip()}"
        yield display
    finally:
        server.terminate()
        server.wait(_END_TIMEOUT)
