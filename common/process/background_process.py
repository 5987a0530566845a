"""A long-running program, started in the background, found by its pid file, ended.

A process outlives the one that started it, so its pid stands in a file. The pid may have been reused: on Linux a
recorded process counts as ours only if its environment has the variables of its identity.

Windows has no signals. There a process gets CTRL_BREAK, which reaches it only from the same console; where that fails
it is terminated. A virtual environment's python.exe is a launcher there: ending it ends the interpreter.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from common.errors import UsageError

if sys.platform == "win32":
    _OWN_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP
    _OWN_CONSOLE = subprocess.CREATE_NO_WINDOW
else:
    _OWN_GROUP = _OWN_CONSOLE = 0  # start_new_session does it there

PAUSE = 0.02  # seconds between two looks at a process that somebody else started


class BackgroundProcess:
    """The process called `name`, running or not.

    `identity`: the variables that it is started with, and by which it is known again; no other process has them all.
    """

    def __init__(self, name: str, identity: Mapping[str, str], *, pid_file: Path, log_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._identity = dict(identity)
        self._pid_file = pid_file
        self._child: Optional[subprocess.Popen[bytes]] = None
        self._confirmed: Optional[int] = None

    def start(self, command: Sequence[str], environment: Mapping[str, str], *, own_console: bool = False) -> None:
        """Start `command` in a session of its own, its output appended to the log.

        `environment` gets the identity's variables. On Windows `own_console` gives it a console without a window,
        so that it outlives the one of this process; CTRL_BREAK does not reach it then. Raises `UsageError` if it runs
        already.
        """
        if self.pid is not None:
            raise UsageError(f"{self.name} is running already, as process {self.pid}")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            # A session of its own: Ctrl-C at the terminal must not reach it before stop() does.
            self._child = subprocess.Popen(
                command,
                env={**environment, **self._identity, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=sys.platform != "win32",
                creationflags=_OWN_GROUP | (_OWN_CONSOLE if own_console else 0),
            )
        self._pid_file.write_text(f"{self._child.pid}\n")

    @property
    def pid(self) -> Optional[int]:
        """The pid while the process lives, else None."""
        if self._child is not None and self._child.poll() is None:
            return self._child.pid
        recorded = self._recorded_pid()
        if recorded is None or (self._child is not None and self._child.pid == recorded):
            return None
        return recorded if self._is_ours(recorded) and _is_alive(recorded) else None

    @property
    def exit_code(self) -> Optional[int]:
        """How it ended, if this process started it and it has; negative for a signal."""
        return None if self._child is None else self._child.poll()

    @property
    def died(self) -> bool:
        """Whether it was started, was not ended by us, and is gone."""
        return self._pid_file.exists() and self.pid is None

    def terminate(self) -> None:
        """Ask the process to end, if it is still there."""
        pid = self.pid
        if pid is not None:
            _ask_to_end(pid)

    def kill(self) -> None:
        """End the process at once (SIGKILL, TerminateProcess) and wait until it is gone."""
        pid = self.pid
        if pid is not None:
            _end_at_once(pid)
        self.wait_gone(10)
        self.forget()

    def wait_gone(self, seconds: float) -> bool:
        """Wait up to `seconds` for the process to end; whether it has."""
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(PAUSE)
        return True

    def forget(self) -> None:
        """Remove the pid file."""
        self._pid_file.unlink(missing_ok=True)

    def log_tail(self, lines: int = 12) -> str:
        """The last `lines` of the log, under its name; for error messages."""
        try:
            with self.log_file.open(encoding="utf-8", errors="replace") as log:
                tail = "".join(deque(log, maxlen=lines)).rstrip()
        except FileNotFoundError:
            tail = ""
        return f"--- {self.log_file} ends with:\n{tail or '(nothing)'}"

    def _is_ours(self, pid: int) -> bool:
        # Asked once: a process that is ending has lost its environment before its files and ports are free.
        if self._confirmed != pid or not _is_alive(pid):
            self._confirmed = pid if _was_started_with(pid, self._identity) else None
        return self._confirmed == pid

    def _recorded_pid(self) -> Optional[int]:
        try:
            return int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None


if sys.platform == "win32":
    import ctypes

    def _was_started_with(pid: int, identity: Mapping[str, str]) -> bool:
        return True  # cannot be asked without more libraries; every stop removes the pid files

    # On Windows os.kill(pid, 0) would send CTRL_C.
    def _is_alive(pid: int) -> bool:
        synchronize, wait_timeout = 0x00100000, 0x102
        kernel = ctypes.WinDLL("kernel32")
        kernel.OpenProcess.restype = ctypes.c_void_p
        handle = ctypes.c_void_p(kernel.OpenProcess(synchronize, False, pid))
        if not handle:
            return False
        try:
            return bool(kernel.WaitForSingleObject(handle, 0) == wait_timeout)
        finally:
            kernel.CloseHandle(handle)

    def _ask_to_end(pid: int) -> None:
        try:
            os.kill(pid, signal.CTRL_BREAK_EVENT)
        except OSError:
            _end_at_once(pid)

    def _end_at_once(pid: int) -> None:
        try:
            os.kill(pid, signal.SIGTERM)  # on Windows: TerminateProcess
        except PermissionError:
            return  # what it says of a process that is ending already

else:

    def _was_started_with(pid: int, identity: Mapping[str, str]) -> bool:
        if sys.platform != "linux":
            return True  # as on Windows
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False  # gone, or somebody else's
        return all(os.fsencode(f"{name}={value}") in variables for name, value in identity.items())

    def _is_alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):
            return False  # gone, or somebody else's
        return not _is_zombie(pid)

    def _is_zombie(pid: int) -> bool:
        # Ended, and not yet reaped by its parent, which may be the cluster's starter.
        if sys.platform != "linux":
            return False
        try:
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:
            return True
        return state in (b"Z", b"X")

    def _ask_to_end(pid: int) -> None:
        _send(pid, signal.SIGTERM)

    def _end_at_once(pid: int) -> None:
        _send(pid, signal.SIGKILL)

    def _send(pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # it ended by itself in the meantime
