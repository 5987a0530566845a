"""The broker's bounds on its own memory."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from typing import Optional

import pytest

from broker.memory import InUse, data_limit, is_too_much, memory_exceeded, watch_memory
from tests import ROOT

MIB = 1 << 20
PATIENCE = 60  # seconds
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts so")


def test_the_limit_is_what_there_is_and_what_may_still_come() -> None:
    assert data_limit(384 * MIB, InUse(resident=45 * MIB, data=125 * MIB)) == (464 + 64) * MIB
    assert data_limit(32 * MIB, InUse(resident=45 * MIB, data=125 * MIB)) == (125 + 64) * MIB


def test_it_ends_while_there_is_still_an_eighth_left() -> None:
    assert not is_too_much(384 * MIB, InUse(336 * MIB, 0))
    assert is_too_much(384 * MIB, InUse(336 * MIB + 1, 0))


def test_a_process_that_grows_too_large_is_told_to_stop_and_knows_why() -> None:
    sizes = iter([100, 200, 337])
    stopping = threading.Event()
    exceeded = watch_memory(384 * MIB, stopping, lambda: InUse(next(sizes) * MIB, 0))
    assert stopping.wait(PATIENCE)
    assert exceeded.is_set()


@pytest.mark.parametrize("refusal", [MemoryError(), OSError(errno.ENOMEM, "no memory")])
def test_a_process_that_is_refused_the_memory_to_look_ends_as_one_that_has_too_much(refusal: Exception) -> None:
    """Seen in a broker that a message without end had brought to its RLIMIT_DATA: nobody watched it any more."""

    def look() -> InUse:
        raise refusal

    stopping = threading.Event()
    exceeded = watch_memory(384 * MIB, stopping, look)
    assert stopping.wait(PATIENCE)
    assert exceeded.is_set()


def test_a_process_that_ends_for_another_reason_did_not_exceed_anything() -> None:
    stopping = threading.Event()
    exceeded = watch_memory(384 * MIB, stopping, lambda: InUse(100 * MIB, 0))
    stopping.set()
    assert not exceeded.is_set()


def test_where_the_system_does_not_tell_nothing_is_watched() -> None:
    asked = threading.Event()

    def look() -> Optional[InUse]:
        asked.set()
        return None

    stopping = threading.Event()
    watch_memory(384 * MIB, stopping, look)
    assert asked.wait(PATIENCE)
    assert not stopping.is_set()


def test_the_end_for_want_of_memory_is_a_fault_that_a_supervisor_restarts_after() -> None:
    assert memory_exceeded(384 * MIB).exit_code == 1


@linux_only
def test_what_a_process_has_in_memory_grows_with_what_it_touches() -> None:
    # A process of its own: in this one other tests' memory may be given back meanwhile.
    program = (
        "from broker.memory import in_use\n"
        "before = in_use().resident\n"
        "touched = bytearray(b'x') * (64 << 20)\n"
        "print(in_use().resident - before)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert int(ended.stdout) > 60 * MIB, ended.stderr


@linux_only
def test_a_process_with_a_cap_is_refused_what_is_beyond_it() -> None:
    program = (
        "from broker.memory import cap_memory, in_use\n"
        "cap_memory(200 << 20)\n"
        "kept = [bytearray(b'x') * (16 << 20) for _ in range(8)]\n"
        "print('eight', flush=True)\n"
        "try:\n"
        "    while True: kept.append(bytearray(b'x') * (16 << 20))\n"
        "except MemoryError:\n"
        "    print(in_use().resident < 264 << 20)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False
    )
    assert ended.stdout.split() == [b"eight", b"True"], ended
