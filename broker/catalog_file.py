"""The file that keeps the broker's catalog: a cache, so what is wrong with it costs that it is made anew."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path
from typing import Optional

from blake3 import blake3

from broker.catalog import in_memory
from broker.catalog_rows import SCHEMA, CatalogDamaged, Storage

log = logging.getLogger(__name__)

FILE = "catalog.sqlite"
ROOM = 8 << 30  # bytes of rows: some 25 million images
_VERSION = 3  # of SCHEMA, and of what is in its rows
_APPLICATION = 0x54455343  # "TESC", which tells SQLite's files apart
_CACHE = 32 << 20  # bytes of pages that SQLite keeps in memory
_CHECKPOINT = 4000  # pages of 4 KiB that are written to the log before they move to the file
_DIGEST = ".blake3"  # of the file beside it, which has the digest of what was closed
_READ = 1 << 20  # bytes at a time
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class CatalogFile:
    """`path`: of the file, which is made where it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: Optional[sqlite3.Connection] = None
        self._has_disk = True

    def open(self) -> Storage:
        """What is there, as it was left, or nothing where that cannot be trusted; in memory where there is no disk.

        Nothing is ever synced. What was closed is believed where it has the digest that was noted then; what was not,
        under the same boot of the system only: after a power cut its pages may not fit together.
        """
        if self._has_disk:
            try:
                self._connection = _opened(self._path) or _made(self._path)
                _note_boot(self._connection)
                return Storage(self._connection, ROOM)
            except (sqlite3.Error, OSError) as error:
                log.warning("the catalog is kept in memory, since it cannot be kept on disk: %s", error)
        self._has_disk, self._connection = False, in_memory()
        return Storage(self._connection)

    def lose(self, damaged: CatalogDamaged) -> None:
        """It cannot be gone on with: the next one is empty, and in memory where that is the system's doing."""
        log.error("%s; it is made anew from what the devices announce", damaged)
        self._has_disk = self._has_disk and not damaged.by_system
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
        with contextlib.suppress(OSError):
            _remove(self._path)

    def close(self) -> None:
        """Keep what was committed, and note its digest."""
        try:
            if self._connection is not None:
                self._connection.close()
            if self._has_disk:
                _beside(self._path, _DIGEST).write_text(_digest(self._path))
        except (sqlite3.Error, OSError) as error:
            log.warning("the catalog cannot be kept: %s", error)


def _opened(path: Path) -> Optional[sqlite3.Connection]:
    """What is there; None where nothing is that can be trusted."""
    if not path.exists():
        return None
    noted = _beside(path, _DIGEST)
    closed = noted.exists()
    if closed and noted.read_bytes() != _digest(path).encode():
        log.warning("the catalog is not as it was closed, and is made anew")
        return None
    noted.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        found = [connection.execute(f"PRAGMA {which}").fetchone()[0] for which in ("application_id", "user_version")]
        if found == [_APPLICATION, _VERSION]:
            _configure(connection)
            (boot,) = connection.execute("SELECT boot FROM opened").fetchone()
            if closed or boot == _boot():
                return connection
            log.warning("the catalog was not closed before the system went down, and is made anew")
        else:
            log.warning("the catalog is of another version, and is made anew")
    except (sqlite3.Error, ValueError, TypeError) as error:
        log.warning("the catalog cannot be read, and is made anew: %s", error)
    connection.close()
    return None


def _made(path: Path) -> sqlite3.Connection:
    _remove(path)
    path.touch(0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    _configure(connection)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.executescript(SCHEMA)
    return connection


def _remove(path: Path) -> None:
    """The file, and what lies beside it."""
    for each in (path, *(_beside(path, end) for end in ("-wal", "-shm", "-journal", _DIGEST))):
        each.unlink(missing_ok=True)


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _digest(path: Path) -> str:
    hasher = blake3()
    with path.open("rb") as file:
        while some := file.read(_READ):
            hasher.update(some)
    return hasher.hexdigest()


def _configure(connection: sqlite3.Connection) -> None:
    for pragma in (
        "locking_mode = EXCLUSIVE",  # no other process: no file of shared memory
        "journal_mode = WAL",
        "synchronous = OFF",
        f"cache_size = -{_CACHE >> 10}",
        f"wal_autocheckpoint = {_CHECKPOINT}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _note_boot(connection: sqlite3.Connection) -> None:
    """Note under which boot it is open."""
    connection.execute("DELETE FROM opened")
    connection.execute("INSERT INTO opened VALUES (?)", (_boot() or b"",))


def _boot() -> Optional[bytes]:
    """Which boot of the system this is; None where it does not say."""
    try:
        return _BOOT.read_bytes().strip() or None
    except OSError:
        return None
