"""The memory of a program that holds a key is for nobody else of the same user."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_PR_GET_DUMPABLE = 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")
def test_a_program_for_a_person_cannot_be_read_or_dumped_by_others() -> None:
    """In a process of its own: it cannot be undone without trace."""
    code = f"""
import ctypes, sys
from common.process.program import application, run
commands = application("A test.")
@commands.command()
def show() -> int:
    return ctypes.CDLL(None).prctl({_PR_GET_DUMPABLE}, 0, 0, 0, 0)
sys.argv = ["test"]
run(commands, "test")
"""
    assert ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 1, "this process shows nothing then"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
