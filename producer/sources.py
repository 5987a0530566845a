"""Which files there are to store: those named, those in the folders named, and `-` for stdin."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from common.errors import NotFoundError, TesseraError, UsageError

STDIN = "-"


@dataclass(frozen=True)
class Source:
    """A file to store; `path` is None for stdin, `fault` is set where it cannot be stored."""

    path: Optional[Path]
    shown: str  # the path as the user gave it
    name: str  # the image's name, as the mapping keeps it
    size: Optional[int] = None  # bytes; None where it shows only at the end
    fault: Optional[TesseraError] = None


def find_sources(arguments: Iterable[str], stdin_name: str) -> Iterator[Source]:
    """The files in the order of the arguments; those of a folder sorted, links to folders not followed."""
    for argument in arguments:
        if argument == STDIN:
            yield Source(None, STDIN, stdin_name)
        elif os.path.isdir(argument):
            yield from _walk(argument)
        else:
            yield _file(argument)


def _walk(folder: str) -> Iterator[Source]:
    unreadable: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=unreadable.append):
        folders.sort()
        for file in sorted(files):
            yield _file(os.path.join(here, file))
    for error in unreadable:
        shown = os.fspath(error.filename)
        fault = NotFoundError(f"{shown}: cannot be read: {error.strerror}")
        yield Source(Path(shown), shown, Path(shown).name, fault=fault)


def _file(shown: str) -> Source:
    path = Path(shown)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Source(path, shown, path.name, fault=NotFoundError(f"{shown}: no such file"))
    except (OSError, ValueError) as error:
        return Source(path, shown, path.name, fault=NotFoundError(f"{shown}: {error}"))
    if not stat.S_ISREG(status.st_mode):
        return Source(path, shown, path.name, fault=UsageError(f"{shown}: not a regular file"))
    return Source(path, shown, path.name, status.st_size)
