"""What a program keeps from others of its user before it loads anything: its memory, and what it was started with.

Linux lets any process of a user read the memory of that user's others and the environment that they were started with
(a passphrase may be in it), unless they ask for it not to. Windows does likewise and cannot be asked. What runs as
root, or as an administrator, reads everything everywhere.
"""

from __future__ import annotations

import ctypes
import sys

_PR_SET_DUMPABLE = 4
_PASSPHRASES = (b"TESSERA_PASSPHRASE", b"TESSERA_NEW_PASSPHRASE")


def keep_passphrases_hidden() -> None:
    """Close this process to others of its user, and wipe the passphrases in what it was started with.

    The kernel refuses debuggers, core dumps, and reading of its memory and environment from then on. `os.environ` is a
    copy, and keeps them for this program; its children have them no more.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.getenv.restype = ctypes.c_void_p
    for name in _PASSPHRASES:
        address = libc.getenv(name)
        if address:
            ctypes.memset(address, 0, len(ctypes.string_at(address)))
