"""Makes the routing ids that a ROUTER gives out unpredictable; libzmq leaves that to whoever uses it.

libzmq 4.3 numbers a ROUTER's anonymous peers from a value that it draws with the C library's `rand` when the socket is
made, and never seeds it: the first peer of every process is 006b8b4567. A peer that sets its own routing id to the one
that comes next makes libzmq abort the whole process when the next peer comes ("Assertion failed: ok
(src/socket_base.cpp)"). So `rand` is seeded from the system's random source before each ROUTER is made.

The seed has 32 bits, and so has the counter: this keeps an attacker from knowing the number, not from guessing. A guess
costs a connection. Whoever guesses right has a broker restarted (`broker/supervisor.py`), and nothing else.
"""

from __future__ import annotations

import ctypes
import os
import sys

_SEED_SIZE = 4  # bytes: an `unsigned int`


def seed_routing_ids() -> None:
    """Seed the C library's `rand`; to be called in the thread that makes the ROUTER, since Windows keeps one for each.

    OSError or AttributeError where there is no C library to be found: a broker must not run without.
    """
    library = ctypes.CDLL("ucrtbase") if sys.platform == "win32" else ctypes.CDLL(None)
    library.srand(ctypes.c_uint(int.from_bytes(os.urandom(_SEED_SIZE), "little")))
