"""A network of its own, for peers that listen on more than they are told to (Linux alone)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from cluster.ports import HOST
from common.errors import TesseraError

TOOLS = ("unshare", "nsenter", "ip", "setpriv")
_TIMEOUT = 60.0  # seconds
_GRACE = 15.0  # seconds


class Sandbox:
    """Its own loopback, and nothing else unless a LAN is made of several: any port is free.

    `address`: by which what listens in it is reached.
    """

    def __init__(self, holder: int, namespaces: Sequence[str], address: str) -> None:
        self.address = address
        self._holder = holder
        self._namespaces = namespaces
        self._network = os.readlink(f"/proc/{holder}/ns/net")

    def within(self, *command: str) -> list[str]:
        """The command that runs this one in the sandbox."""
        # nsenter becomes the command, so that the process which is measured is the command's own.
        user = [] if _is_root() else ["--user", "--preserve-credentials"]
        return ["nsenter", f"--target={self._holder}", *user, *self._namespaces, "--", *command]

    @property
    def holder(self) -> int:
        """The process that keeps it."""
        return self._holder

    def run(self, *command: str, environment: Optional[Mapping[str, str]] = None) -> str:
        """What it printed; `TesseraError` where it fails. `environment`: default is this process's."""
        ended = subprocess.run(
            self.within(*command), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
        )
        if ended.returncode != 0:
            raise TesseraError(f"{command[0]} ended with {ended.returncode}: {(ended.stderr or ended.stdout).strip()}")
        return ended.stdout

    @contextmanager
    def running(
        self, log: Path, *command: str, environment: Optional[Mapping[str, str]] = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A server in the sandbox, which ends with the block or with this process; what it says goes into a log.

        `environment`: default is this process's.
        """
        with (
            log.open("ab") as said,
            subprocess.Popen(
                self.within("setpriv", "--pdeathsig", "TERM", *command),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment,
                start_new_session=True,  # an interruption from the terminal is for the bench, which ends this
            ) as process,
        ):
            try:
                yield process
            finally:
                end(process)

    def processes(self, part: str = "") -> list[int]:
        """Those in the sandbox, daemons of daemons among them, whose command lines have this part."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is somebody else's
                said = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if said and part in said and os.readlink(folder / "ns" / "net") == self._network:
                    found.append(int(folder.name))
        return sorted(pid for pid in found if pid != self._holder)


@contextmanager
def sandbox(*, mounts: bool = False, address: str = HOST) -> Iterator[Sandbox]:
    """With `mounts`, what is mounted in it is seen by nobody outside, either; that is root's alone.

    TesseraError where this system has no namespaces, or does not let this user make one.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise TesseraError(f"a network namespace needs {', '.join(missing)}, which is not installed here")
    if mounts and not _is_root():
        raise TesseraError("only root can mount what it needs")
    namespaces = ["--net", "--mount"] if mounts else ["--net"]
    user = [] if _is_root() else ["--user", "--map-root-user"]
    hold = ["sh", "-c", "ip link set lo up && echo up && exec cat"]  # until its standard input ends
    command, pipe = ["unshare", *user, *namespaces, "--", *hold], subprocess.PIPE
    # In a session of its own: what interrupts the bench is no reason for this to end before what runs in it.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as holder:
        assert holder.stdin and holder.stdout and holder.stderr
        if holder.stdout.readline() != b"up\n":
            raise TesseraError(f"no network namespace: {holder.stderr.read().decode(errors='replace').strip()}")
        box = Sandbox(holder.pid, namespaces, address)
        try:
            yield box
        finally:
            _kill_all(box)
            holder.stdin.close()


NODES = 6


@dataclass(frozen=True)
class Site:
    """Where the parts of a peer run: its client, what stands between, and each of its storage servers."""

    client: Sandbox
    between: Sandbox
    nodes: Sequence[Sandbox]

    def processes_of_nodes(self, part: str) -> list[int]:
        """As `Sandbox.processes`."""
        return [pid for box in dict.fromkeys(self.nodes) for pid in box.processes(part)]


@contextmanager
def one_sandbox(*, mounts: bool = False) -> Iterator[Site]:
    """All of it in one; errors as of `sandbox`."""
    with sandbox(mounts=mounts) as box:
        yield Site(box, box, [box] * NODES)


def _kill_all(box: Sandbox) -> None:
    """What servers left behind: their daemons are no children of this process."""
    end_by = time.monotonic() + _GRACE
    while (left := box.processes()) and time.monotonic() < end_by:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


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
    end_by = time.monotonic() + _TIMEOUT
    while not ready():
        if any(server.poll() is not None for server in servers) or time.monotonic() > end_by:
            raise TesseraError(f"{what} did not start", advice=f"it said: {_last_words(log)}")
        time.sleep(0.1)


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:] if log.exists() else "nothing"


def _is_root() -> bool:
    return os.name == "posix" and os.geteuid() == 0
