"""Starts, watches and ends the programs that this computer runs for its cluster beside the window.

    services/worker.json    a device's options, see `model.service`; there as long as it is one
    services/worker.pid     its process, if this app started it
    logs/worker.log         its log

One that runs holds a lock, whoever started it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from common.errors import IntegrityError, RefusedError, TesseraError, UnreachableError, cannot_write, kind_of
from common.files import is_locked, make_folder, read_limited, write_private
from common.process.background_process import BackgroundProcess
from desktop.login import LoginEntry, enter, login_entry, strike
from desktop.model.service import (
    Program,
    Service,
    ServiceStatus,
    State,
    decode_service,
    environment_of,
    require_absent,
    without_settings,
)

log = logging.getLogger(__name__)

_CHECKOUT = Path(__file__).resolve().parent.parent
_MAX_FILE = 1 << 16
_MOST_LOG = 10 << 20  # bytes after which the next start begins a new one
_READ_LOG = 1 << 16  # bytes of it that are read
_TIMEOUT = 30.0  # seconds until one that was started serves
_GRACE = 20.0  # seconds that one has to end
_LOOK_EVERY = 0.1  # seconds


class Services:
    """The programs of Tessera's folder `home`. All methods block."""

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self._started: dict[Program, BackgroundProcess] = {}  # those whose exit codes we get

    def status(self, program: Program) -> ServiceStatus:
        """How it is now."""
        service = self._set_up(program)
        known = service or Service(program, str(self._home / "store") if program is Program.WORKER else "")
        running = is_locked(self._lock(known))
        if service is not None and (self._process(program).pid is not None or running):
            return ServiceStatus(State.RUNNING, service)
        if service is not None:
            return ServiceStatus(State.STOPPED, service, fault_at_end(program.value, self._log_since(program, 0)))
        return ServiceStatus(State.ELSEWHERE if running else State.OFF, known)

    def set_up(self, service: Service, once: Mapping[str, str]) -> None:
        """Start it now, wait until it serves, and have it started at each login; after a failure nothing is set up.

        `once`: variables for this one start. UsageError where it runs already, the error by which the program ended,
        UnreachableError where it does not serve in time.
        """
        program = service.program
        require_absent(self.status(program))
        self._start(service, once)
        try:
            path = self._file(program)
            try:
                write_private(path, service.encode())
            except OSError as error:
                raise cannot_write(path, error) from None
            enter(self._entry(program))
        except BaseException:
            self._end(program)
            self._file(program).unlink(missing_ok=True)
            raise

    def ensure(self, service: Service) -> None:
        """Run its program as it was set up, or else set it up so; errors as of `set_up`."""
        state = self.status(service.program).state
        if state is State.OFF:
            self.set_up(service, {})
        elif state is State.STOPPED:
            self.resume(service.program)

    def resume(self, program: Program, *, wait: bool = True) -> None:
        """Start it as it was set up, unless it runs; errors as of `set_up`. `wait`: until it serves."""
        status = self.status(program)
        if status.state is State.STOPPED:
            self._start(status.service, {}, wait=wait)

    def give_up(self, program: Program) -> None:
        """End it, and remove its login entry; its data stays. RefusedError where it was not started by this app."""
        status = self.status(program)
        strike(self._entry(program))
        self._end(program)
        self._file(program).unlink(missing_ok=True)
        if is_locked(self._lock(status.service)):
            raise RefusedError(
                "it is started no more when you log in, but it runs: something else than this app started it",
                advice="end it where it was started: in its terminal, or as a service",
            )

    # --- how

    def _start(self, service: Service, once: Mapping[str, str], *, wait: bool = True) -> None:
        program, process = service.program, self._process(service.program)
        begin, before = self._begin_log(process.log_file), self._served(service)
        script = _CHECKOUT / program.value / f"{program.value}.py"
        command = [_with_console(sys.executable), str(script), *service.arguments]
        try:
            make_folder(self._home)  # which only its owner enters
            process.start(command, {**without_settings(os.environ), **once}, own_console=True)
        except OSError as error:
            raise cannot_write(process.log_file.parent, error) from None
        self._started[program] = process
        end = time.monotonic() + _TIMEOUT
        while wait and self._served(service) in (None, before):
            if process.pid is None:
                process.forget()
                raise error_of(program.value, process.exit_code or 0, self._log_since(program, begin))
            if time.monotonic() > end:
                self._end(program)
                said = error_of(program.value, UnreachableError.exit_code, self._log_since(program, begin))
                raise UnreachableError(f"it does not serve after {_TIMEOUT:.0f} s: {said}", advice=said.advice)
            time.sleep(_LOOK_EVERY)

    def _end(self, program: Program) -> None:
        process = self._process(program)
        process.terminate()
        if not process.wait_gone(_GRACE):
            process.kill()
        process.forget()

    def _served(self, service: Service) -> Optional[object]:
        """A value that differs each time it begins to serve; None where it does not serve.

        A device locks its store once it was admitted. A broker locks its folder before it binds its ports, and writes
        where it listens after.
        """
        if service.program is Program.WORKER:
            return is_locked(self._lock(service)) or None
        try:
            status = os.stat(self._home / "broker" / "serving.json")
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _lock(self, service: Service) -> Path:
        if service.program is Program.BROKER:
            return self._home / "broker" / "broker.lock"
        return Path(service.store) / "store.lock"

    def _process(self, program: Program) -> BackgroundProcess:
        return self._started.get(program) or BackgroundProcess(
            program.value,
            environment_of(program, str(self._home)),
            pid_file=self._file(program).with_suffix(".pid"),
            log_file=self._home / "logs" / f"{program.value}.log",
        )

    def _entry(self, program: Program) -> LoginEntry:
        return login_entry(program, self._home, _windowless(sys.executable))

    def _file(self, program: Program) -> Path:
        return self._home / "services" / f"{program.value}.json"

    def _set_up(self, program: Program) -> Optional[Service]:
        path = self._file(program)
        try:
            service = decode_service(read_limited(path, _MAX_FILE), path)
        except FileNotFoundError:
            return None
        except (OSError, IntegrityError) as error:
            log.warning("%s is passed over: %s", path, error)
            return None
        return service if service.program is program else None

    def _begin_log(self, log: Path) -> int:
        """The position in the log where a program that is started now begins."""
        try:
            size = log.stat().st_size
            if size <= _MOST_LOG:
                return size
            os.replace(log, log.with_suffix(".log.1"))
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise cannot_write(log, error) from None
        return 0

    def _log_since(self, program: Program, begin: int) -> str:
        """The log from a position on; only its end where it is long."""
        try:
            with self._process(program).log_file.open("rb") as log:
                log.seek(max(begin, log.seek(0, os.SEEK_END) - _READ_LOG))
                return log.read(_READ_LOG).decode("utf-8", "replace")
        except OSError:
            return ""


def _windowless(python: str) -> str:
    """The interpreter without a console on Windows, which would show at each login."""
    other = Path(python).with_name("pythonw.exe")
    return str(other) if sys.platform == "win32" and other.exists() else python


def _with_console(python: str) -> str:
    """The interpreter for a program that logs, whichever runs this one."""
    other = Path(python).with_name("python.exe")
    return str(other) if sys.platform == "win32" and other.exists() else python


def error_of(program: str, exit_code: int, said: str) -> TesseraError:
    """The error of a program that ended: its message is a line of the output, its advice the indented line below."""
    lines = [line for line in said.splitlines() if line.strip()]
    what, advice = _last_fault(program, lines)
    return kind_of(exit_code)(what or (lines[-1] if lines else "it said nothing"), advice=advice)


def fault_at_end(program: str, log: str) -> str:
    """The error in the last line of a log; empty where there is none."""
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("  ")]
    return _last_fault(program, lines[-1:])[0]


def _last_fault(program: str, lines: list[str]) -> tuple[str, Optional[str]]:
    begin = f"{program}: "
    last = max((number for number, line in enumerate(lines) if line.startswith(begin)), default=None)
    if last is None:
        return "", None
    below = lines[last + 1 : last + 2]
    return lines[last][len(begin) :], below[0].strip() if below and below[0].startswith("  ") else None
