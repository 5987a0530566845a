"""What code that broke a decoder can still do: speak by two pipes. Tried as an account that is not root."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="there is no filter here"
)
ATTEMPTS = {
    "open a file": "os.open('there', os.O_RDONLY)",
    "make a file": "os.open('new', os.O_WRONLY | os.O_CREAT)",
    "look a file up": "os.stat('there')",
    "make a folder": "os.mkdir('folder')",
    "remove a file": "os.unlink('there')",
    "rename a file": "os.rename('there', 'elsewhere')",
    "change rights": "os.chmod('there', 0o777)",
    "open a socket": "socket.socket()",
    "open a socket of this machine": "socket.socket(socket.AF_UNIX)",
    "have another handle": "os.dup(1)",
    "have a file in memory": "os.memfd_create('new')",
    "start a process": "os.fork() or os._exit(0)",
    "start a thread": "threading.Thread(target=int).start()",
    "become another program": "os.execv('/bin/echo', ['echo', '-n', 'done'])",
    "run a shell": "os.posix_spawn('/bin/sh', ['/bin/sh', '-c', 'true'], {})",
    "end another process": "os.kill(child.pid, signal.SIGTERM)",
    "limit another process": "resource.prlimit(child.pid, resource.RLIMIT_CPU, (1, 1))",
    "wait for another process": "os.waitpid(child.pid, os.WNOHANG)",
}


def attempted(attempt: str, folder: Path, confined: str) -> str:
    """What came of an attempt in a folder where that account may do anything, on its handle 2 and with a child."""
    folder.mkdir()
    folder.chmod(0o777)
    code = f"""
import os, resource, signal, socket, subprocess, sys, threading
sys.path.insert(0, {str(ROOT)!r})
from viewer.limits import confine
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
open('there', 'w').close()
child = subprocess.Popen(['cat'], stdin=subprocess.PIPE)
{confined}
os.close(2)
try:
    {attempt}
except (PermissionError, RuntimeError):
    os.write(1, b'denied')
else:
    os.write(1, b'done')
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, timeout=60, check=True)
    return done.stdout.decode()


@pytest.mark.parametrize("what", ATTEMPTS)
def test_a_decoder_that_was_broken_can_not(what: str, tmp_path: Path) -> None:
    assert attempted(ATTEMPTS[what], tmp_path / "before", "") == "done", "it could before"
    assert attempted(ATTEMPTS[what], tmp_path / "after", "confine()") == "denied"


@pytest.mark.parametrize("what", ATTEMPTS)
def test_nor_where_threads_decode_can_such_a_thread(what: str, tmp_path: Path) -> None:
    found = []
    attempt = f"exec({ATTEMPTS[what]!r})"
    in_thread = f"""failed = []
    def attempt():
        try:
            {attempt}
        except (PermissionError, RuntimeError) as error:
            failed.append(error)
    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]"""
    for number, code in enumerate((attempt, in_thread)):
        found.append(attempted(code, tmp_path / str(number), "assert confine(threads=True)"))
    assert found == ["done" if what == "start a thread" else "denied"] * 2


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("[0, (-1, errno.EINVAL)]", "goes on"),  # by a kernel without filters
        ("[0, (-1, errno.EFAULT), 0]", "filters"),
        ("[0, (-1, errno.EFAULT), (-1, errno.EPERM)]", "TesseraError"),
        ("[(-1, errno.EPERM)]", "TesseraError"),
    ],
)
def test_a_kernel_without_filters_is_gone_on_with_and_one_that_refuses_is_not(said: str, outcome: str) -> None:
    code = f"""
import ctypes, errno
from common.errors import TesseraError
from viewer.system_calls import filter_system_calls
said = {said}
class Kernel:
    def prctl(self, *_):
        result, number = said.pop(0) or (0, 0)
        ctypes.set_errno(number)
        return result
ctypes.CDLL = lambda *_, **__: Kernel()
try:
    in_force = filter_system_calls()
except TesseraError:
    print("TesseraError")
else:
    print("filters" if in_force else "goes on")
assert not said
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=True)
    assert done.stdout.decode().strip() == outcome
