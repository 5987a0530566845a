"""Hands the lines of the audit log to a syslog: by UDP as RFC 5424 and 5426 have it, or to a socket as /dev/log is one.

A thread of its own sends, so that no name server and no syslog that is slow or away holds up the broker; 1,000 lines
wait for it, and of those beyond, and those that could not be sent, the number is logged. UDP tells of no loss on the
way: whoever needs every line has a syslog on the broker's machine that passes them on.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from datetime import datetime, timezone
from logging.handlers import SysLogHandler
from typing import Callable, Optional, Union

from common.errors import UsageError

_WAITING = 1000  # lines
_LAST = 2.0  # seconds that the end waits for what is still to be sent
_SAY_AGAIN = 60.0  # seconds
log = logging.getLogger(__name__)

Place = Union[str, tuple[str, int]]


def parse_place(text: str) -> Place:
    """HOST:PORT, or the path of a socket; UsageError where it is neither."""
    if text.startswith("/"):
        if not hasattr(socket, "AF_UNIX"):
            raise UsageError(f"this system has no socket {text}", advice="give the syslog's HOST:PORT")
        return text
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is no syslog: give HOST:PORT, or a socket such as /dev/log")
    return host.strip("[]"), int(port)


class _Handler(SysLogHandler):
    append_nul = False

    def __init__(self, place: Place, failed: Callable[[], None]) -> None:
        self._failed = failed
        super().__init__(place, SysLogHandler.LOG_AUTHPRIV)

    def handleError(self, record: logging.LogRecord) -> None:
        self._failed()


class Syslog:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._queue: queue.Queue[Optional[bytes]] = queue.Queue(_WAITING)
        self._lost = 0
        self._next_word = float("-inf")
        self._thread = threading.Thread(target=self._run, name="syslog", daemon=True)
        self._thread.start()

    def send(self, line: bytes) -> None:
        """Have a line sent; never waits."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self._failed()

    def close(self) -> None:
        """Wait for a moment until all is sent."""
        try:
            self._queue.put(None, timeout=_LAST)
        except queue.Full:
            return
        self._thread.join(_LAST)

    def _run(self) -> None:
        handler: Optional[_Handler] = None
        while True:
            line = self._queue.get()
            if line is None:
                return
            try:
                handler = handler or _Handler(self._place, self._failed)
            except OSError:  # no such socket or name now
                self._failed()
                continue
            handler.emit(logging.makeLogRecord({"msg": self._message(line.decode("ascii")), "levelname": "INFO"}))

    def _message(self, line: str) -> str:
        if isinstance(self._place, str):
            return f"tessera-broker[{os.getpid()}]: {line}"  # who listens there knows time and host
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        return f"1 {moment} {socket.gethostname()} tessera-broker {os.getpid()} audit - {line}"

    def _failed(self) -> None:
        self._lost += 1
        if time.monotonic() >= self._next_word:
            self._next_word = time.monotonic() + _SAY_AGAIN
            log.warning("%d lines of the audit log did not reach the syslog at %s", self._lost, self._place)
