"""How a log is written: a record is one line, whatever is in it, and a traceback is for `--debug` only."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Optional, Union

from common.text import printable

_Fault = Union[
    tuple[type[BaseException], BaseException, Optional[TracebackType]],
    tuple[None, None, None],
]


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
