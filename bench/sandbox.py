"""A network that has nothing but loopback, for peers that listen on more than they are told to (Linux alone)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from common.errors import TesseraError

TOOLS = ("unshare", "nsenter", "ip", "setpriv")
_PATIENCE = 60.0  # seconds
_GRACE = 15.0  # seconds


class Sandbox:
    """Its own loopback: what listens in it is heard by nobody outside, and any port is free."""

    def __init__(self, holder: int) -> None:
        self._holder = holder

    def within(self, *command: str) -> list[str]:
        """The command that runs this one in the sandbox."""
        # nsenter becomes the command, so that the process which is measured is the command's own.
        user = [] if _is_root() else ["--user", "--preserve-credentials"]
        return ["nsenter", f"--target={self._holder}", *user, "--net", "--", *command]

    @contextmanager
    def running(self, log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A server in the sandbox, which ends with the block or with this process; what it says goes into a log."""
        with (
            log.open("ab") as said,
            subprocess.Popen(
                self.within("setpriv", "--pdeathsig", "TERM", *command),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,  # an interruption from the terminal is for the bench, which ends this
            ) as process,
        ):
            try:
                yield process
            finally:
                end(process)


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """Raise `TesseraError` where this system has no namespaces, or does not let this user make one."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise TesseraError(f"a network namespace needs {', '.join(missing)}, which is not installed here")
    user = [] if _is_root() else ["--user", "--map-root-user"]
    hold = ["sh", "-c", "ip link set lo up && echo up && exec cat"]  # until its standard input ends
    command = ["unshare", *user, "--net", "--", *hold]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as holder:
        assert holder.stdin and holder.stdout and holder.stderr
        try:
            if holder.stdout.readline() != b"up\n":
                raise TesseraError(f"no network namespace: {holder.stderr.read().decode(errors='replace').strip()}")
            yield Sandbox(holder.pid)
        finally:
            holder.stdin.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and kill it if it does not."""
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(ready: Callable[[], bool], servers: Sequence[subprocess.Popen[bytes]], what: str, log: Path) -> None:
    """Raise `TesseraError` where one of the servers has ended, or it takes too long."""
    end_by = time.monotonic() + _PATIENCE
    while not ready():
        if any(server.poll() is not None for server in servers) or time.monotonic() > end_by:
            raise TesseraError(f"{what} did not start", advice=f"it said: {_last_words(log)}")
        time.sleep(0.1)


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:] if log.exists() else "nothing"


def _is_root() -> bool:
    return os.name == "posix" and os.geteuid() == 0
