"""Keeps the memory of a program that holds keys from other programs of the same user.

Linux lets any process of a user read the memory and the environment (a passphrase may be in it) of that user's others,
unless they ask for it not to. Windows does likewise and cannot be asked. What runs as root, or as an administrator,
reads everything everywhere.
"""

from __future__ import annotations

import sys

_PR_SET_DUMPABLE = 4


def forbid_peeking() -> None:
    """Have the kernel refuse debuggers, core dumps, and reading of this process's memory and environment."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
