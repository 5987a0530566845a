"""A program that is asked to end has what waits in its event loop tidy up, whoever is running in that moment."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests import ROOT

PATIENCE = 60  # seconds

# A task that always runs, and others that wait for each other to wait for it.
_PROGRAM = """
import asyncio, signal, sys
if "ignoring" in sys.argv: signal.signal(signal.SIGINT, signal.SIG_IGN)
from common.process.interruption import run_until_interrupted
from common.process.stopping import end_as_interrupted
async def busy():
    print("ready", flush=True)
    while True:
        await asyncio.sleep(0)
async def waiting(depth):
    try:
        await asyncio.gather(asyncio.ensure_future(waiting(depth - 1) if depth else busy()))
    finally:
        await asyncio.sleep(0)
        print("tidied", depth, flush=True)
end_as_interrupted()
try:
    run_until_interrupted(lambda: waiting(3))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal to send to another process")
@pytest.mark.parametrize(
    ("name", "words"), [("SIGINT", ()), ("SIGTERM", ()), ("SIGTERM", ("ignoring",)), ("SIGHUP", ())]
)
def test_all_that_waits_tidies_up_before_the_program_ends_as_interrupted(name: str, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", _PROGRAM, *words]
    for _ in range(5):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.Signals[name])
            out, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130, errors
        assert out.splitlines() == [f"tidied {depth}" for depth in range(4)]


_HUNG_UP = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from common.process.stopping import end_as_interrupted, stop_on_signals
if "serving" in sys.argv:
    stopping = stop_on_signals()
else:
    end_as_interrupted()
os.kill(os.getpid(), signal.SIGHUP)
assert "serving" not in sys.argv or not stopping.is_set()
print("goes on")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
@pytest.mark.parametrize("word", ["serving", "working"])
def test_behind_nohup_a_program_goes_on_when_its_terminal_is_gone(word: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _HUNG_UP, word], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, ended.stdout.split()) == (0, [b"goes", b"on"]), ended


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_program_that_serves_ends_when_its_terminal_is_gone() -> None:
    program = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from common.process.stopping import stop_on_signals
stopping = stop_on_signals()
os.kill(os.getpid(), signal.SIGHUP)
assert stopping.wait(20)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 0, ended


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal to send to another process")
def test_ctrl_c_is_ignored_where_it_was_and_results_and_errors_pass() -> None:
    program = """
import asyncio, os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from common.process.interruption import run_until_interrupted
async def work():
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.1)
    return "done"
print(run_until_interrupted(work))
async def cancelled():
    raise asyncio.CancelledError
try:
    run_until_interrupted(cancelled)
except asyncio.CancelledError:
    print("cancelled")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False
    )
    assert ended.stdout.split() == [b"done", b"cancelled"], ended


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal to send to a process")
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("before", ["the handlers are set", "the loop is made"])
def test_interrupted_before_it_runs_it_ends_so_without_a_word(before: str, times: int) -> None:
    script = f"""
import contextlib, os, signal, sys
from common.process import interruption
def interrupt():
    for _ in range({times}):
        os.kill(os.getpid(), signal.SIGINT)
class Loop(interruption.RunningLoop):
    def __init__(self):
        if "{before}" == "the loop is made":
            interrupt()
        super().__init__()
interruption.RunningLoop = Loop
if "{before}" == "the handlers are set":
    interruption._asked_by_signals = lambda handler: interrupt()
async def work():
    print("begun")
try:
    interruption.run_until_interrupted(work)
except KeyboardInterrupt:
    sys.exit(130)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")
