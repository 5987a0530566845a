"""The audit log: who was admitted, refused or banned, and what was asked of devices and images, by whom.

`audit.jsonl` in the broker's folder, mode 0600, one JSON object a line: the digest of the line before (`audit_chain`),
the `time` (UTC), the `event` and its facts: names, roles, addresses, ids and beginnings of public keys. Never a secret:
an invite appears by its public half.

At 10 MiB the file becomes `audit.1.jsonl`, that one `audit.2.jsonl` and so on; five files are kept, and the chain goes
through them. The commands (`broker.py invite`, `revoke`) write here beside the broker that serves, so lines are written
under a lock, into a file that is opened for it: nobody holds it open, and Windows lets it be renamed.

Lines wait until `flush` makes them durable, all by one fsync, which the server does before anything goes out that was
done meanwhile. A disk that refuses stops nobody: it is said every minute, and the lines wait until it takes them. What
a power cut tore is cut off, and a line tells of it.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import os
import socket
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Generic, Optional, TypeVar

from broker.audit_chain import Chain, Fact, Tail, chained, check, digest_of, tail_of
from common.errors import NotFoundError
from common.files import locked, make_folder, rename_over, sync_file, sync_folder
from common.text import printable

_MAX_BYTES = 10 << 20  # of one file
_FILES = 5
_MAX_WAITING = 10_000  # lines that the disk did not take; of those beyond, the number is recorded
_TRY_AGAIN = 5.0  # seconds
_SAY_AGAIN = 60.0  # seconds
_TAIL = 64 << 10  # bytes; a line is far shorter

Record = Callable[..., None]  # as `AuditLog.record`
Forward = Callable[[bytes], None]
log = logging.getLogger(__name__)

K = TypeVar("K")

_QUIET = 4.0  # seconds without another device, after which a record is complete
_MAX_OPEN = 1000  # records; beyond, the oldest goes out early


class AuditLog:
    def __init__(
        self,
        folder: Path,
        unix: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        max_bytes: int = _MAX_BYTES,
        forward: Optional[Forward] = None,
    ) -> None:
        """`folder`: the broker's. `unix`, `monotonic`: seconds. `max_bytes`: of one file.

        `forward` is handed every line from now on, those of the commands too, as it stands in the file; one that the
        disk refuses at once, and again when it is there.
        """
        self._folder = folder
        self._lock = folder / "audit.lock"
        self._unix = unix
        self._monotonic = monotonic
        self._max_bytes = max_bytes
        self._forward = forward
        self._waiting: list[dict[str, Fact]] = []
        self._refused = 0  # of these, how many the disk refused
        self._lost = 0  # lines that were too many to wait
        self._next_try = self._next_warning = float("-inf")
        self._unsynced = False  # an fsync of the newest file failed: it gets nothing more
        self._forwarded = self._newest() if forward is not None else ""  # the digest of the last line forwarded

    # --- what happens

    def record(self, event: str, **facts: Fact) -> None:
        """Have a line written by the next `flush`."""
        if len(self._waiting) >= _MAX_WAITING:
            self._lost += 1
            return
        moment = datetime.fromtimestamp(self._unix(), timezone.utc).isoformat(timespec="seconds")
        self._waiting.append({"time": moment, "event": event, **facts})

    @property
    def due(self) -> bool:
        """Whether there are lines that the disk was not asked to take yet."""
        return len(self._waiting) > self._refused

    def flush(self) -> None:
        """Make the waiting lines durable. A disk that refuses is nobody else's fault."""
        if not self._waiting:
            return
        if self._monotonic() < self._next_try:
            self._keep_waiting()
            return
        try:
            make_folder(self._folder)
            with locked(self._lock):
                self._write()
        except OSError as error:
            self._next_try = self._monotonic() + _TRY_AGAIN
            self._keep_waiting()
            self._say_refused(error)
        else:
            if self._next_warning > float("-inf"):
                log.warning("the audit log is written again")
            self._next_try = self._next_warning = float("-inf")

    def tick(self) -> None:
        """To be called now and then: tries again, and forwards what the commands wrote."""
        self.flush()
        if self._forward is not None:
            with contextlib.suppress(OSError), locked(self._lock):
                self._forward_from(self._tail())

    # --- where the disk refuses

    def _keep_waiting(self) -> None:
        if self._forward is not None:
            for waiting in self._waiting[self._refused :]:
                self._forward(json.dumps({"unwritten": 1, **waiting}).encode("ascii"))
        self._refused = len(self._waiting)

    def _say_refused(self, error: OSError) -> None:
        if self._monotonic() >= self._next_warning:
            self._next_warning = self._monotonic() + _SAY_AGAIN
            log.error("cannot write the audit log: %s; %d lines wait", error, len(self._waiting) + self._lost)

    # --- the files

    def _write(self) -> None:
        tail = self._tail()
        records = list(self._waiting)
        if tail.torn:
            log.warning("a line of the audit log was torn; its %d bytes are cut off", len(tail.torn))
            told = printable(tail.torn[:200].decode("ascii", "replace"))
            records.insert(0, {"time": records[0]["time"], "event": "torn", "bytes": len(tail.torn), "text": told})
        if self._lost:
            records.append({"time": records[-1]["time"], "event": "not recorded", "count": self._lost})
        lines = chained(records, tail.digest)
        self._append(b"".join(line + b"\n" for line in lines), cut=len(tail.torn))
        self._forward_from(Tail(tail.lines + lines, b""))
        self._waiting.clear()
        self._refused = self._lost = 0

    def _append(self, content: bytes, cut: int) -> None:
        """Write behind what is there, without its last `cut` bytes, and fsync."""
        path = file_at(self._folder, 0)
        size = max(0, path.stat().st_size - cut) if path.exists() else 0
        if not size or self._unsynced or size + len(content) > self._max_bytes:
            self._begin_file(path, size, cut)
            size = 0
        with open(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600), "r+b", 0) as file:
            try:
                file.truncate(size)
                file.seek(size)
                while content:
                    content = content[file.write(content) :]
            except OSError:
                file.truncate(size)  # half a line would count as torn
                raise
            try:
                sync_file(file.fileno())
            except OSError:
                self._unsynced = True
                file.truncate(size)
                raise
        if not size:
            sync_folder(self._folder)
        self._unsynced = False

    def _begin_file(self, path: Path, size: int, cut: int) -> None:
        """Have no newest file: the one that there is moves on, or goes where nothing in it counts."""
        if not size:
            path.unlink(missing_ok=True)
            return
        if cut:
            os.truncate(path, size)
        for number in range(_FILES - 1, 0, -1):
            if file_at(self._folder, number - 1).exists():
                rename_over(file_at(self._folder, number - 1), file_at(self._folder, number))

    def _tail(self) -> Tail:
        """The end of the log, which may reach into the file before the newest."""
        newest = _tail_at(file_at(self._folder, 0))
        if sum(map(len, newest.lines)) >= _TAIL // 2:
            return newest
        older = _tail_at(file_at(self._folder, 1))
        return Tail(older.lines + newest.lines, newest.torn)

    # --- who else is to have it

    def _newest(self) -> str:
        with contextlib.suppress(OSError):
            return self._tail().digest
        return ""

    def _forward_from(self, tail: Tail) -> None:
        """Forward the lines that have not been; all of a tail that has moved beyond them."""
        if self._forward is None:
            return
        unseen: list[bytes] = []
        for line in reversed(tail.lines):
            if digest_of(line) == self._forwarded:
                break
            unseen.append(line)
        for line in reversed(unseen):
            self._forward(line)
        self._forwarded = tail.digest


def unrecorded(event: str, **facts: Fact) -> None:
    """In place of `AuditLog.record`, where nothing is to be kept."""


def record_now(folder: Path, event: str, **facts: Fact) -> None:
    """Record what a command of the broker's machine did, by which account."""
    audit = AuditLog(folder)
    audit.record(event, **facts, by=_account())
    audit.flush()


def verify(folder: Path, includes: Optional[str] = None) -> Chain:
    """Check the whole log in a broker's folder; `includes`: the digest of a line that must be in it.

    IntegrityError where the chain is broken, NotFoundError where there is no log.
    """
    make_folder(folder)
    with locked(folder / "audit.lock"):
        paths = [file_at(folder, number) for number in reversed(range(_FILES)) if file_at(folder, number).exists()]
        files = [(str(path), path.read_bytes()) for path in paths]
    if not files:
        raise NotFoundError(f"there is no audit log in {folder} yet")
    return check(files, from_start=not file_at(folder, _FILES - 1).exists(), includes=includes)


def file_at(folder: Path, number: int) -> Path:
    """A file of the log; 0 is the newest."""
    return folder / (f"audit.{number}.jsonl" if number else "audit.jsonl")


def _tail_at(path: Path) -> Tail:
    try:
        with open(path, "rb") as file:
            if file.seek(0, os.SEEK_END) > _TAIL:
                file.seek(-_TAIL, os.SEEK_END)
                file.readline()  # the rest of a line
                tail = tail_of(file.read())
                if tail.lines:
                    return tail
            file.seek(0)
            return tail_of(file.read())
    except FileNotFoundError:
        return Tail([], b"")


def _account() -> str:
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # an account without a name
        user = "?"
    return printable(f"{user}@{socket.gethostname()}")


class Coalesced(Generic[K]):
    """What many devices are asked or tell about one thing, as one record with their number.

    `now` is monotonic seconds.
    """

    def __init__(self) -> None:
        self._open: dict[K, tuple[float, set[bytes]]] = {}

    def tell(self, key: K, device: bytes, now: float, *, opens: bool = True) -> bool:
        """A device takes part in what `key` stands for; True where that opens a record, which only `opens` does."""
        opened = key not in self._open
        if opened and not opens:
            return False
        devices = set() if opened else self._open[key][1]
        self._open[key] = now, devices | {device}
        return opened

    def take(self, now: float) -> list[tuple[K, int]]:
        """The records that are complete, with the number of devices; each is handed out once."""
        surplus = len(self._open) - _MAX_OPEN
        ready = [key for at, (key, (last, _)) in enumerate(self._open.items()) if at < surplus or now - last >= _QUIET]
        return [(key, len(self._open.pop(key)[1])) for key in ready]
