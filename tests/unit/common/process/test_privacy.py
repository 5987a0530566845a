"""The memory of a program that holds a key, and what it was started with, is for nobody else of the same user."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.local import program_command

_PR_GET_DUMPABLE = 3
# In place of the first library that is loaded: all before it is Tessera's own.
FIRST_LOADED = f"""
import ctypes, os, subprocess
SECRET = "four words for keeping"
try:
    shown = open("/proc/self/environ").read()
except PermissionError:  # nor may the process itself, where it is not root
    shown = ""
inherited = subprocess.run(["env"], stdout=subprocess.PIPE, text=True).stdout
kept = os.environ["TESSERA_PASSPHRASE"], os.environ["TESSERA_NEW_PASSPHRASE"]
print(ctypes.CDLL(None).prctl({_PR_GET_DUMPABLE}, 0, 0, 0, 0), SECRET in shown, SECRET in inherited, kept, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")
@pytest.mark.parametrize("program", ["admin", "consumer", "producer", "desktop"])
def test_before_anything_is_loaded_nobody_reads_a_program_or_its_passphrases(program: str, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(FIRST_LOADED)
    assert ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 1, "this process shows nothing then"
    secrets = ("four words for keeping", "and four words for keeping more")
    variables = dict(zip(("TESSERA_PASSPHRASE", "TESSERA_NEW_PASSPHRASE"), secrets))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), **variables}
    done = subprocess.run(program_command(program), env=environment, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout == f"0 False False {secrets}\n"
