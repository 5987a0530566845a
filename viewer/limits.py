"""What the viewer denies itself: memory, time, files, sockets, processes.

Set once everything is imported and before the first image is met; a hard limit cannot be raised again. Where a limit
does not bite (Windows has none of them), the parent's deadline does.
"""

from __future__ import annotations

import os
import sys

MAX_MEMORY = 256 << 20  # bytes of address space: about 40 MiB are the interpreter's, 48 MiB a decoded image's
_OPEN_FILES = 3  # stdin, stdout, stderr; a new one, be it a socket, would have the number 3


def confine() -> None:
    """Deny this process whatever looking at pictures does not need."""
    if sys.platform == "win32":
        return
    import resource

    _limit(resource.RLIMIT_AS, MAX_MEMORY)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_NPROC, 0)


def _limit(kind: int, most: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def allow_seconds(seconds: int) -> None:
    """Have the process end once it used the processor for so many seconds more: nobody else may be left to end it."""
    if sys.platform == "win32":
        return
    import resource

    used = os.times()
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.user + used.system) + seconds + 1, hard))
