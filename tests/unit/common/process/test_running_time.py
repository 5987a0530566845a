"""A laptop that sleeps is late for nothing: deadlines count only the time in which the program ran."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from common.process.interruption import run_until_interrupted
from common.process.running_time import RunningTime, called_after


class Elapsed:
    """A clock that goes as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def elapsed() -> Elapsed:
    return Elapsed()


def test_a_program_that_is_asked_often_enough_has_the_time_of_everybody(elapsed: Elapsed) -> None:
    time = RunningTime(elapsed)
    began = time()
    for _ in range(40):
        elapsed.now += 0.25
        time()
    assert time() - began == pytest.approx(10.0)
    assert time.woke == float("-inf")


def test_time_in_which_a_program_stood_still_counts_as_a_second_whatever_it_was(elapsed: Elapsed) -> None:
    time = RunningTime(elapsed)
    began = time()
    elapsed.now += 8 * 3600.0
    assert time() - began == 1.0
    assert time.woke == time()


def test_a_turn_that_took_a_little_long_is_no_sleep(elapsed: Elapsed) -> None:
    time = RunningTime(elapsed)
    elapsed.now += 2.5
    time()
    assert time.woke == float("-inf")


_WAITING = """
import asyncio, os
from common.process.interruption import run_until_interrupted

async def wait_for_an_answer():
    try:
        answer = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(3.5, answer.set_result, None)
        print("waits", flush=True)
        await asyncio.wait_for(answer, 4.0)
    except asyncio.TimeoutError:
        print("late", flush=True)
    else:
        print("answered", flush=True)

run_until_interrupted(wait_for_an_answer)
"""


_WATCHED = """
import time
from common.process.running_time import RunningTime, called_after

with called_after(4.0, lambda: print("late", flush=True)):
    now = RunningTime()
    end = now() + 3.0
    print("waits", flush=True)
    while now() < end:
        time.sleep(0.1)
print("answered", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
@pytest.mark.parametrize("program", [_WAITING, _WATCHED])
def test_a_program_stopped_for_longer_than_it_waits_still_waits_when_it_goes_on(program: str) -> None:
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waits\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(5.0)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == b"answered\n"


def test_what_takes_too_long_is_told_and_what_does_not_is_not() -> None:
    told = threading.Event()
    with called_after(0.01, told.set):
        assert told.wait(20)
    told.clear()
    with called_after(3600.0, told.set):
        pass
    assert not told.is_set()


def test_an_event_loop_of_ours_ends_what_is_left_as_asyncios_own_does() -> None:
    ended: list[str] = []

    async def left_behind() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("tidied up")

    async def work() -> int:
        task = asyncio.get_running_loop().create_task(left_behind())
        await asyncio.sleep(0)
        assert not task.done()
        return 7

    assert run_until_interrupted(work) == 7
    assert ended == ["tidied up"]
