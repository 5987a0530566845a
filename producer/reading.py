"""Reads a file and its SHA-256 in one pass, and notices when the file did not hold still meanwhile.

A file is read once where it can be: hashing runs beside the reading, in a thread, and whatever is read is hashed. A
file that is already known by path, size and time of change is not read at all.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import IO, Optional, Union

from common.errors import IntegrityError, NotFoundError, TesseraError
from common.vault.journal import Origin
from common.vault.seen import Stamp
from producer.sources import Source

_HASH_STEP = 1 << 20

WholeFile = tuple[memoryview, bytes, Optional[Stamp]]  # content, SHA-256, stamp


class Reader:
    """One source, open. Errors name the file and concern it alone: NotFoundError, IntegrityError."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()
        self._before: Optional[os.stat_result] = None
        self._read = 0
        try:
            # Kept open until `close`, which is what SIM115 cannot see.
            self._file: IO[bytes] = _raw_stdin() if source.path is None else open(source.path, "rb", 0)  # noqa: SIM115
            if source.path is not None:
                self._before = os.fstat(self._file.fileno())
        except OSError as error:
            raise _unreadable(source, error) from None

    @property
    def size(self) -> Optional[int]:
        """Bytes, as the file was when it was opened; None for stdin."""
        return self._before.st_size if self._before is not None else None

    @property
    def stamp(self) -> Optional[Stamp]:
        if self._before is None or self._source.path is None:
            return None
        return Stamp.of(self._source.path, self._before)

    @property
    def origin(self) -> Optional[Origin]:
        """What tells this very file from any other, for a journal; None for stdin."""
        if self._before is None or self._source.path is None:
            return None
        return Origin.of(self._source.path, self._before)

    def read_into(self, buffer: memoryview) -> int:
        """Fill the buffer as far as the source goes, hash what was read, and return its length."""
        length = 0
        while length < buffer.nbytes:
            step = buffer[length : length + _HASH_STEP]
            try:
                count = self._file.readinto(step)  # type: ignore[attr-defined]  # raw and buffered files have it
            except OSError as error:
                raise _unreadable(self._source, error) from None
            if not count:
                break
            self._sha256.update(step[:count])
            length += count
        self._read += length
        return length

    def finish(self) -> bytes:
        """The SHA-256 of all that was read; IntegrityError where the file changed since it was opened."""
        if self._before is not None:
            after = os.fstat(self._file.fileno())
            same = (self._before.st_size, self._before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            if not same or self._read != self._before.st_size:
                raise changed(self._source)
        return self._sha256.digest()

    def close(self) -> None:
        if self._source.path is not None:
            self._file.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_whole(source: Source) -> WholeFile:
    """A small file's bytes, SHA-256 and stamp; IntegrityError where it is not as large as when it was found."""
    with Reader(source) as reader:
        if reader.size != source.size:
            raise changed(source)
        content = bytearray(reader.size or 0)
        reader.read_into(memoryview(content))
        reader.read_into(memoryview(bytearray(1)))  # a byte more than it said makes `finish` fail
        return memoryview(content).toreadonly(), reader.finish(), reader.stamp


def hash_file(source: Source) -> tuple[bytes, Optional[Stamp]]:
    """A file's SHA-256 and stamp."""
    buffer = memoryview(bytearray(_HASH_STEP))
    with Reader(source) as reader:
        while reader.read_into(buffer) == buffer.nbytes:
            pass
        return reader.finish(), reader.stamp


def changed(source: Source) -> IntegrityError:
    return IntegrityError(
        f"{source.shown} changed while it was read; it was not stored",
        advice="store it again when it is at rest",
    )


def _raw_stdin() -> IO[bytes]:
    """stdin below its buffer: a thread that waits in the buffer holds its lock, and a program cannot end then."""
    raw: IO[bytes] = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return raw


def _unreadable(source: Source, error: Union[OSError, ValueError]) -> TesseraError:
    return NotFoundError(f"{source.shown}: cannot be read: {getattr(error, 'strerror', None) or error}")
