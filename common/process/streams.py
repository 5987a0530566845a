"""stdout and stderr that write any text, and whose write errors do not end the program.

A name of a file need not be Unicode, nor fit the encoding of the terminal. A byte that was no text when it was read is
written as it was; a character that the encoding lacks is written as an escape (`\\u5199`), so that no line is lost.

The first write error (a full disk, a reader that went away, a stream that was closed) is kept, and all that follows is
dropped: storing and restoring go on, and `fault_of` gives it in the end.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import logging
import os
import sys
from types import TracebackType
from typing import IO, Any, Optional, TextIO, Union

from common.text import printable

_STDERR = 2
_Fault = Union[tuple[type[BaseException], BaseException, Optional[TracebackType]], tuple[None, None, None]]
_ERRORS = "tessera"  # how a character is written that the encoding lacks


class _LenientStream(io.TextIOWrapper):
    """A text stream; `fault` is its first write error, after which all is dropped.

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
    codecs.register_error(_ERRORS, _escape)
    sys.stdout, sys.stderr = _prepared(sys.stdout), _prepared(sys.stderr)


def fault_of(stream: Any) -> Optional[OSError]:
    """A stream's first write error; None where all was written."""
    if stream is not None:
        stream.flush()
    return getattr(stream, "fault", None)


def for_stdout(text: str) -> str:
    """A line for stdout with a name in it that others chose: printable on a terminal, as it is for any other reader."""
    return printable(text) if sys.stdout is not None and sys.stdout.isatty() else text


def stdout_bytes() -> IO[bytes]:
    """stdout for bytes, unbuffered: a write may be partial, and may raise OSError."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    sys.stdout.flush()
    raw: IO[bytes] = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    return raw


def _prepared(stream: Optional[TextIO]) -> Any:
    if stream is None:
        return _closed()
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # replaced by a caller
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # the parent may have made its pipe non-blocking
            os.set_blocking(stream.fileno(), True)
    return _LenientStream(
        stream.buffer,
        encoding="utf-8" if sys.platform == "win32" else stream.encoding,
        errors=_ERRORS,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _closed() -> Optional[_LenientStream]:
    """In place of a stream that the program was started without: every write fails.

    Its descriptor is taken, lest C libraries print into the next file that is opened. None on Windows, where a program
    without a console has none.
    """
    if sys.platform == "win32":
        return None
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= _STDERR:
        pass
    return _LenientStream(io.BufferedWriter(io.FileIO(descriptor, "w")), encoding="utf-8", errors=_ERRORS)


def _escape(error: UnicodeError) -> tuple[Union[str, bytes], int]:
    """A codec's error handler: what is written in place of one character, and where the next begins."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte that `os.fsdecode` could not read
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return character.encode("ascii", "backslashreplace").decode("ascii"), error.start + 1


class LineFormatter(logging.Formatter):
    """Formats a record as one line without control characters, whatever names and messages of others are in it.

    Libraries log what they catch with a traceback, as asyncio does when the network goes: without `tracebacks` only its
    type and its text are shown.
    """

    def __init__(self, style: str, *, tracebacks: bool) -> None:
        super().__init__(style)
        self._tracebacks = tracebacks

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        if record.exc_info and record.exc_info[1] is not None and not self._tracebacks:
            text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        return printable(text.replace("\n", " "))

    def formatException(self, ei: _Fault) -> str:
        return super().formatException(ei) if self._tracebacks else ""
