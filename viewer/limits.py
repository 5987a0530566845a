"""The limits that the viewer sets itself: memory, time, files, sockets, processes, system calls.

Set once everything is imported and before the first image; none of it can be undone. Where a limit has no effect
(Windows has none of them, and root any number of processes), the filter of system calls or the parent's deadline has.
"""

from __future__ import annotations

import os
import sys

from viewer.system_calls import filter_system_calls

MAX_MEMORY = 256 << 20  # bytes of address space: about 40 MiB are the interpreter's, 48 MiB a decoded image's


def confine(*, threads: bool = False) -> bool:
    """Deny this process whatever decoding does not need; TesseraError where that fails.

    `threads`: decoding needs threads of its own. Returns whether there may be any: not where nothing but
    `RLIMIT_NPROC`, which counts processes and threads alike, keeps it from starting processes.
    """
    if sys.platform == "win32":
        return threads
    import resource

    _limit(resource.RLIMIT_AS, MAX_MEMORY)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 0)  # what is open stays open; no handle that is closed makes room for another
    threads = filter_system_calls(threads=threads) and threads
    if not threads:
        _limit(resource.RLIMIT_NPROC, 0)
    return threads


def _limit(kind: int, most: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def allow_seconds(seconds: int) -> None:
    """End the process after so many more seconds of processor time, should its parent be gone."""
    if sys.platform == "win32":
        return
    import resource

    used = os.times()
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.user + used.system) + seconds + 1, hard))
