"""The memory of a program: closed to other programs of the same user, and kept for the next message.

Linux lets any process of a user read the memory and the environment (a passphrase may be in it) of that user's others,
unless they ask for it not to. Windows does likewise and cannot be asked. What runs as root, or as an administrator,
reads everything everywhere.

A program that serves gets and frees blocks of 1 MiB all the time. glibc gives each back to the system, which clears
its pages anew at the next: a sixth of the processor time of broker and workers (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import sys

_PR_SET_DUMPABLE = 4
_MIB = 1 << 20
# From malloc.h of glibc: what, and bytes.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = (-1, 128 * _MIB), (-2, 4 * _MIB), (-3, 32 * _MIB)


def forbid_peeking() -> None:
    """Have the kernel refuse debuggers, core dumps, and reading of this process's memory and environment."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def keep_freed_memory() -> None:
    """From now on up to 128 MiB that are free in each heap stay with this process; only with glibc."""
    if not sys.platform.startswith("linux"):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # musl has none
        return
    for option, size in (_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD):
        set_option(option, size)
