"""The audit log: who was let in, refused or put out, what was invited and what was deleted; one JSON object a line.

`audit.jsonl` in the broker's folder, mode 0600. A line has the `time` (UTC), the `event` and its facts: names, roles,
addresses, ids and beginnings of public keys. Never a secret: an invite appears by its public half.

At 10 MiB the file becomes `audit.1.jsonl`, that one `audit.2.jsonl` and so on; five files are kept. The commands
(`broker.py invite`, `revoke`) write here beside the broker that serves, so each line is written under a lock, into a
file that is opened for it: nobody holds it open, and Windows lets it be renamed.

It is a record, no promise: a line is not fsynced, and where the disk refuses it the broker says so and goes on.
"""

from __future__ import annotations

import json
import logging
import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Union

from common.files import locked, make_folder, rename_over

_MAX_BYTES = 10 << 20  # of one file
_FILES = 5
_SHOWN_KEY = 16  # hexadecimal digits of a public key that a line shows

Fact = Union[str, int]
Record = Callable[..., None]  # as `AuditLog.record`
log = logging.getLogger(__name__)


class AuditLog:
    def __init__(self, folder: Path, unix: Callable[[], float] = time.time, max_bytes: int = _MAX_BYTES) -> None:
        """`folder`: the broker's. `unix` gives Unix seconds; `max_bytes`: of one file."""
        self._folder = folder
        self._lock = folder / "audit.lock"
        self._unix = unix
        self._max_bytes = max_bytes
        self._failing = False

    def record(self, event: str, **facts: Fact) -> None:
        """Write a line. A disk that refuses is said once in the log, and is nobody else's fault."""
        moment = datetime.fromtimestamp(self._unix(), timezone.utc).isoformat(timespec="seconds")
        line = json.dumps({"time": moment, "event": event, **facts}).encode("ascii") + b"\n"
        try:
            make_folder(self._folder)
            with locked(self._lock):
                self._append(line)
        except OSError as error:
            if not self._failing:
                log.error("cannot write the audit log: %s", error)
            self._failing = True
        else:
            self._failing = False

    def _append(self, line: bytes) -> None:
        path = self._path(0)
        if path.exists() and path.stat().st_size + len(line) > self._max_bytes:
            for number in range(_FILES - 1, 0, -1):
                if self._path(number - 1).exists():
                    rename_over(self._path(number - 1), self._path(number))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(line)

    def _path(self, number: int) -> Path:
        return self._folder / (f"audit.{number}.jsonl" if number else "audit.jsonl")


def unrecorded(event: str, **facts: Fact) -> None:
    """In place of `AuditLog.record`, where nothing is to be kept."""


def shown_key(public_key: Union[bytes, str]) -> str:
    """How a line names a public key (bytes, or hexadecimal)."""
    return (public_key if isinstance(public_key, str) else public_key.hex())[:_SHOWN_KEY]
