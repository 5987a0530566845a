"""Reads a file and its SHA-256 in one pass, and detects a change meanwhile.

A file is read once where it can be: hashing runs beside the reading, in a thread, and whatever is read is hashed. A
file that is already known by its stamp is not read at all.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import select
import sys
import time
from pathlib import Path
from typing import IO, Optional, Union

from common.errors import IntegrityError, NotFoundError, TesseraError
from common.files import open_regular
from common.vault.stamp import Stamp
from producer.sources import Source

_HASH_STEP = 1 << 20


class ChangedError(IntegrityError):
    """A file was changed while it was read."""

    advice = "store it again when it is at rest"


WholeFile = tuple[memoryview, bytes, Optional[Stamp]]  # content, SHA-256, stamp


class Reader:
    """One source, open. Errors name the file and concern it alone: NotFoundError, ChangedError, IntegrityError."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()
        self._opened = time.time_ns()
        self.origin: Optional[Stamp] = None  # the file as it was when it was opened; None for stdin
        self._read = 0
        try:
            self._file: IO[bytes] = _opened(source)
            if source.path is not None:
                self.origin = self._stamped(source.path)
        except OSError as error:
            raise _unreadable(source, error) from None

    def _stamped(self, path: Path) -> Stamp:
        descriptor = self._file.fileno()
        return Stamp.of(path, os.fstat(descriptor), descriptor)

    @property
    def size(self) -> Optional[int]:
        """Bytes, as the file was when it was opened; None for stdin."""
        if self._source.content is not None:
            return len(self._source.content)
        return None if self.origin is None else self.origin.size

    @property
    def stamp(self) -> Optional[Stamp]:
        """The stamp by which the file is recognised; None for stdin."""
        return None if self.origin is None else self.origin.proving_from(self._opened)

    def read_into(self, buffer: memoryview) -> int:
        """Fill the buffer as far as the source goes, hash what was read, and return its length."""
        length = 0
        while length < buffer.nbytes:
            step = buffer[length : length + _HASH_STEP]
            count = self._read_step(step)
            if not count:
                break
            self._sha256.update(step[:count])
            length += count
        self._read += length
        return length

    def read_segment(self, buffer: memoryview) -> tuple[int, bytes]:
        """As `read_into`; also the SHA-256 of all that was read so far."""
        count = self.read_into(buffer)
        return count, self._sha256.digest()

    def _read_step(self, step: Union[memoryview, bytearray]) -> int:
        """Bytes read, 0 at the end."""
        try:
            # A non-blocking stdin gives None while it is empty: that is not its end.
            while (count := self._file.readinto(step)) is None:  # type: ignore[attr-defined]  # all files here have it
                select.select([self._file], [], [])
        except OSError as error:
            raise _unreadable(self._source, error) from None
        return int(count)

    def finish(self) -> bytes:
        """The SHA-256 of all that was read; ChangedError where the file changed since it was opened.

        Where only its status changed, as by a new name or other rights, it is read once more to be sure.
        """
        if self.origin is not None and self._source.path is not None:
            try:
                after = self._stamped(self._source.path)
            except OSError as error:
                raise _unreadable(self._source, error) from None
            if after[:3] != self.origin[:3] or self._read != after.size:  # path, size, modified
                raise changed(self._source)
            if after != self.origin and not self._reads_the_same():
                raise changed(self._source)
        return self._sha256.digest()

    def _reads_the_same(self) -> bool:
        self._file.seek(0)
        again = hashlib.sha256()
        step = bytearray(_HASH_STEP)
        while count := self._read_step(step):
            again.update(memoryview(step)[:count])
        return again.digest() == self._sha256.digest()

    def close(self) -> None:
        if self._source.path is not None:
            self._file.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_whole(source: Source) -> WholeFile:
    """A small file's bytes, SHA-256 and stamp; ChangedError where it is not as large as when it was found."""
    with Reader(source) as reader:
        if reader.size != source.size:
            raise changed(source)
        content = bytearray(reader.size or 0)
        reader.read_into(memoryview(content))
        reader.read_into(memoryview(bytearray(1)))  # a byte more than its size makes `finish` fail
        return memoryview(content).toreadonly(), reader.finish(), reader.stamp


def hash_file(source: Source) -> tuple[bytes, Optional[Stamp]]:
    """A file's SHA-256 and stamp."""
    buffer = memoryview(bytearray(_HASH_STEP))
    with Reader(source) as reader:
        while reader.read_into(buffer) == buffer.nbytes:
            pass
        return reader.finish(), reader.stamp


def stamp_of(source: Source) -> Optional[Stamp]:
    """A file's stamp without reading it; None for stdin, or where reading it will raise the error."""
    if source.path is None:
        return None
    try:
        return Stamp.of(source.path, source.path.stat())
    except OSError:
        return None


def changed(source: Source) -> ChangedError:
    return ChangedError(f"{source.shown} changed while it was read; it was not stored")


def _opened(source: Source) -> IO[bytes]:
    if source.content is not None:
        return io.BytesIO(source.content)
    return _raw_stdin() if source.path is None else open_regular(source.path)


def _raw_stdin() -> IO[bytes]:
    """stdin without its buffer, whose lock a waiting thread would hold, so that the program could not end."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, "stdin is closed")
    raw: IO[bytes] = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return raw


def _unreadable(source: Source, error: OSError) -> TesseraError:
    kind = IntegrityError if error.errno == errno.EIO else NotFoundError
    return kind(f"{source.shown}: cannot be read: {error.strerror or error}")
