"""stdout and stderr that take every text, and whose faults are no fault of the program.

A name of a file need not be Unicode, nor fit the encoding of the terminal. A byte that was no text when it was read is
written as it was; a character that the encoding lacks is written as an escape (`\\u5199`), so that no line is lost.

What the system refuses to take (a full disk, a reader that went away, a stream that was closed) is remembered, and all
that follows is dropped: storing and restoring go on, and `fault_of` tells of it in the end. Of a stderr that is broken
nobody can be told.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from typing import IO, Any, Optional, TextIO, Union

_STDERR = 2
_ERRORS = "tessera"  # how a character is written that the encoding lacks


class _Enduring(io.TextIOWrapper):
    """Text for a stream; `fault` is the first refusal, after which all is dropped.

    Not below the buffer: an interruption in the middle of what is written there would have it written twice.
    """

    fault: Optional[OSError] = None

    def write(self, text: str) -> int:
        if self.fault is None:
            try:
                return super().write(text)
            except OSError as error:
                self.fault = error
        return len(text)

    def flush(self) -> None:
        if self.fault is None:
            try:
                super().flush()
            except OSError as error:
                self.fault = error


def prepare_streams() -> None:
    """Have this process's stdout and stderr be such streams; to be called once, before anything is printed."""
    codecs.register_error(_ERRORS, _written_all_the_same)
    sys.stdout, sys.stderr = _prepared(sys.stdout), _prepared(sys.stderr)


def fault_of(stream: Any) -> Optional[OSError]:
    """Why not all that was written to a stream has gone out; None where it has."""
    if stream is not None:
        stream.flush()
    return getattr(stream, "fault", None)


def stdout_bytes() -> IO[bytes]:
    """stdout for bytes that are no text, without a buffer: what it refuses is an OSError, and may be a part of them."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    sys.stdout.flush()
    raw: IO[bytes] = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    return raw


def _prepared(stream: Optional[TextIO]) -> Any:
    if stream is None:
        return _closed()
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # somebody's own
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # whoever started the program may have made its pipe not wait for a reader
            os.set_blocking(stream.fileno(), True)
    return _Enduring(
        stream.buffer,
        encoding="utf-8" if sys.platform == "win32" else stream.encoding,
        errors=_ERRORS,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _closed() -> Optional[_Enduring]:
    """In place of a stream that the program was started without: it takes nothing.

    Its number is given away, lest what C libraries print go into the next file that is opened. Windows starts programs
    without a console so, and there is nothing to be told.
    """
    if sys.platform == "win32":
        return None
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= _STDERR:
        pass
    return _Enduring(io.BufferedWriter(io.FileIO(descriptor, "w")), encoding="utf-8", errors=_ERRORS)


def _written_all_the_same(error: UnicodeError) -> tuple[Union[str, bytes], int]:
    """A codec's error handler: what is written in the place of one character, and where the next begins."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte that `os.fsdecode` could not read
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return character.encode("ascii", "backslashreplace").decode("ascii"), error.start + 1
