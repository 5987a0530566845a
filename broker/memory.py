"""Bounds the broker's memory, whatever its peers send.

libzmq bounds the size of a frame and the number of messages in a pipe, but not the number of frames of one message: a
peer that sends a message without end grows the process, out of sight of the loop, which gets whole messages only. No
option of a socket prevents that. So the process watches what it has in memory and ends cleanly above seven eighths of
what it may have (`watch_memory`), and what grows faster than that is looked at ends by the system's refusal
(`cap_memory`), which libzmq answers by aborting. A supervisor starts it anew (`broker/supervisor.py`, or systemd); the
broker keeps nothing in memory that the devices do not tell it again.

What of it there is: on Linux both; on Windows the watch alone; elsewhere none that can be relied on.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Callable, NamedTuple, Optional

from common.errors import TesseraError

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.05  # seconds; at loopback's speed some 50 MB come in such a time
_UNTOUCHED = 64 << 20  # bytes; 24 MiB more were measured after a put, in threads and in heaps that keep room
_STATM = "/proc/self/statm"
_STATM_BYTES = 512  # more than its seven numbers take


class InUse(NamedTuple):
    """What a process has of memory now, in bytes."""

    resident: int  # in physical memory
    data: int  # what RLIMIT_DATA counts: private and writable, touched or not, threads' stacks included


def data_limit(most: int, now: InUse) -> int:
    """The RLIMIT_DATA that keeps a process below `most` resident bytes.

    Much of the data is never touched (80 MiB in a broker that has just started, most of it numpy's), so the limit is
    what there is and what may still come, with the stacks and heaps of threads that begin later.
    """
    return now.data + max(0, most - now.resident) + _UNTOUCHED


def is_too_much(most: int, now: InUse) -> bool:
    """Whether to end while ending cleanly is still possible."""
    return now.resident > most // 8 * 7


def watch_memory(
    most: int, stopping: threading.Event, look: Optional[Callable[[], Optional[InUse]]] = None
) -> threading.Event:
    """Set `stopping`, and the event that is returned, once this process has nearly `most` bytes in memory.

    A thread looks until `stopping` is set by whomever.
    """
    exceeded = threading.Event()
    asked = look or memory_reader()

    def watch() -> None:
        while not stopping.wait(_LOOK_EVERY):
            try:
                now = asked()
            except (MemoryError, OSError) as error:
                # What the system refuses this process by now, it will refuse the others of its threads as well.
                exceeded.set()
                stopping.set()
                log.warning("cannot look at what is in memory: %s", type(error).__name__)
                return
            if now is None:
                return
            if is_too_much(most, now):
                exceeded.set()
                stopping.set()

    threading.Thread(target=watch, name="memory", daemon=True).start()
    return exceeded


def memory_exceeded(most: int) -> TesseraError:
    return TesseraError(
        f"the broker came near the {most >> 20} MiB of memory that it may have, and ended",
        advice="a peer may have sent a message without end: see which member it is, and revoke it",
    )


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _Counters(ctypes.Structure):
        _fields_ = (
            ("size", wintypes.DWORD),
            ("page_faults", wintypes.DWORD),
            ("peak_working_set", ctypes.c_size_t),
            ("working_set", ctypes.c_size_t),
            ("unused", ctypes.c_size_t * 4),
            ("pagefile", ctypes.c_size_t),
            ("peak_pagefile", ctypes.c_size_t),
        )

    def in_use() -> Optional[InUse]:
        """What this process has in memory."""
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        kernel.K32GetProcessMemoryInfo.argtypes = (wintypes.HANDLE, ctypes.POINTER(_Counters), wintypes.DWORD)
        counters = _Counters(size=ctypes.sizeof(_Counters))
        if not kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size):
            return None
        return InUse(counters.working_set, counters.pagefile)

    def memory_reader() -> Callable[[], Optional[InUse]]:
        """`in_use`, over and over."""
        return in_use

    def cap_memory(most: int) -> None:
        """Nothing: there is no such limit without a job object, and none is set on a service that others started."""

    def forbid_core_dumps() -> None:
        """Nothing: Windows writes no dump of a process unless it is told to."""

else:
    import resource

    def in_use() -> Optional[InUse]:
        """What this process has in memory; None where the system has no /proc.

        MemoryError or OSError where the system refuses what it takes to look.
        """
        try:
            statm = os.open(_STATM, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return _read(statm)
        finally:
            os.close(statm)

    def memory_reader() -> Callable[[], Optional[InUse]]:
        """`in_use` over and over, of a file that stays open: strangers may leave this process no descriptor."""
        try:
            statm = os.open(_STATM, os.O_RDONLY)
        except FileNotFoundError:
            return lambda: None
        return lambda: _read(statm)

    def _read(statm: int) -> InUse:
        pages = os.pread(statm, _STATM_BYTES, 0).split()
        size = os.sysconf("SC_PAGE_SIZE")
        return InUse(int(pages[1]) * size, int(pages[5]) * size)

    def cap_memory(most: int) -> None:
        """Have the system refuse this process more than `most` bytes of memory in all, once and for good."""
        now = in_use()
        if now is None:
            return
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = data_limit(most, now)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def forbid_core_dumps() -> None:
        """A peer may make libzmq abort this process, and a dump would hold the broker's key."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
