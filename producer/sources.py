"""Which files there are to store: those named, those in the folders named, and `-` for stdin.

What cannot be stored is a source too, with the reason: nothing is skipped silently.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Optional, Union

from common.errors import NotFoundError, TesseraError, UnstorableError
from producer.choosing import is_kept
from producer.events import FailedImage, LeftOut, SkippedFile

STDIN = "-"


@dataclass(frozen=True)
class Source:
    """What is to be stored; `path` is None for stdin."""

    path: Optional[Path]
    shown: str  # the path as the user gave it
    name: str  # the image's name, as the mapping keeps it
    size: Optional[int] = None  # bytes; None where it shows only at the end
    fault: Optional[TesseraError] = None  # why it cannot be stored
    left_out: Optional[LeftOut] = None  # why it is skipped
    is_kept: bool = False  # also where only images are wanted, and its content is none

    @property
    def outcome(self) -> Union[FailedImage, SkippedFile, None]:
        """Its outcome, where it is not to be read."""
        if self.fault is not None:
            return FailedImage(self.shown, self.fault)
        return None if self.left_out is None else SkippedFile(self.shown, self.left_out)


def find_sources(arguments: Iterable[str], stdin_name: str) -> Iterator[Source]:
    """The files in the order of the arguments; those of a folder sorted, links to folders in it not followed."""
    for argument in arguments:
        if argument == STDIN:
            yield Source(None, STDIN, stdin_name)
        elif os.path.isdir(argument):
            yield from _walk(argument)
        else:
            yield _file(argument, partial(_is_beside, argument), named=True)


def _walk(folder: str) -> Iterator[Source]:
    """All that is in a folder, without recursion: folders may be deeper than the stack."""
    folders = [folder]
    while folders:
        here = folders.pop()
        entries: list[os.DirEntry[str]] = []
        try:
            with os.scandir(here) as listing:
                entries += listing
        except OSError as error:  # what was listed before is stored
            yield _failed(here, NotFoundError(f"{here}: cannot be read: {error.strerror}"))
        else:
            if not entries:
                yield _empty(here, named=here == folder)
        names = {entry.name for entry in entries}
        below = []
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not _is_folder(entry):
                yield _file(entry.path, names.__contains__, named=False)
            elif _is_link(entry):
                yield _left_out(entry.path, LeftOut.LINK_TO_FOLDER)
            else:
                below.append(entry.path)
        folders += reversed(below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # reading it will raise the error


def _is_link(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link; on Windows also a junction, which may lead to a folder above."""
    if sys.platform == "win32" and entry.stat(follow_symlinks=False).st_reparse_tag == stat.IO_REPARSE_TAG_MOUNT_POINT:
        return True
    return entry.is_symlink()


def _empty(shown: str, *, named: bool) -> Source:
    if not named:
        return _left_out(shown, LeftOut.EMPTY_FOLDER)
    fault = UnstorableError(f"{shown}: an empty folder", advice="is what belongs there mounted?")
    return _failed(shown, fault)


def _is_beside(path: str, name: str) -> bool:
    return os.path.lexists(os.path.join(os.path.dirname(path), name))


def _file(shown: str, is_there: Callable[[str], bool], *, named: bool) -> Source:
    """`is_there`: whether its folder has a file of that name."""
    path = Path(shown)
    try:
        status = os.stat(shown)
    except (FileNotFoundError, NotADirectoryError):
        return _failed(shown, NotFoundError(f"{shown}: no such file"))
    except (OSError, ValueError) as error:
        return _failed(shown, NotFoundError(f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}"))
    if stat.S_ISREG(status.st_mode):
        return Source(path, shown, path.name, status.st_size, is_kept=is_kept(path.name, is_there))
    if stat.S_ISDIR(status.st_mode):
        return _failed(shown, NotFoundError(f"{shown}: became a folder while files were looked for"))
    reason = _reason(status.st_mode)
    if not named:
        return _left_out(shown, reason)
    advice = f"to store what it gives: python producer/producer.py - < {shown}" if reason is LeftOut.PIPE else None
    return _failed(shown, UnstorableError(f"{shown}: a {reason.value}, no file", advice=advice))


def _reason(mode: int) -> LeftOut:
    if stat.S_ISFIFO(mode):
        return LeftOut.PIPE
    return LeftOut.SOCKET if stat.S_ISSOCK(mode) else LeftOut.DEVICE


def _failed(shown: str, fault: TesseraError) -> Source:
    path = Path(shown)
    return Source(path, shown, path.name, fault=fault)


def _left_out(shown: str, reason: LeftOut) -> Source:
    path = Path(shown)
    return Source(path, shown, path.name, left_out=reason)
