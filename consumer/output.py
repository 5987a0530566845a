"""Writes restored images: under another name until they are proven, then renamed.

The file name in a mapping is untrusted. It is made safe here: a plain name in the current folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Optional, Union

from common.errors import NotFoundError, TesseraError, UsageError, cannot_write
from common.files import (
    UNFINISHED,
    UNFINISHED_NAME,
    already_exists,
    is_device_name,
    open_held,
    remove_unheld,
    rename_new,
    rename_over,
    sync_files,
    sync_folder,
    type_at,
    unfinished,
)
from common.process.events import Warned
from common.process.running_time import RunningTime
from common.process.streams import stdout_bytes
from common.vault.mapping import Mapping

Blocks = dict[int, memoryview]  # by share

STDOUT = "-"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*]')
_MAX_NAME_BYTES = 200
_FALLBACK = "image"
_PIECE = 1 << 20  # bytes
_WINDOWS_NOWHERE = "nul"
_READER_TIMEOUT = 10.0  # seconds in which somebody begins to read a pipe
_READER_PAUSE = 0.02


def safe_name(name: str) -> str:
    """A name that is a file in the current folder on Linux and Windows, as close to the original as possible."""
    text = _UNSAFE.sub("_", name)
    while (mended := _mend(text)) != text:  # mending one fault may show another: a shortened name may end in a space
        text = mended
    return text


def _mend(name: str) -> str:
    """Mend one fault of a name without unsafe characters; the name itself where it is safe."""
    text = name.strip().rstrip(".")
    if set(text) <= {"_", "."}:
        return _FALLBACK
    if is_device_name(text, windows=True):
        return f"_{text}"
    if len(text.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        stem, dot, suffix = text.rpartition(".")
        return f"{stem[:-1]}{dot}{suffix}" if stem and len(suffix) < 16 else text[:-1]
    return text


def name_here(name: str) -> str:
    """A safe name for a file on this machine.

    Where the encoding of its file system lacks a character of it (as in the locale en_US.ISO-8859-1), the file has the
    bytes that it would have in UTF-8.
    """
    safe = safe_name(name)
    try:
        os.fsencode(safe)
    except UnicodeEncodeError:
        return os.fsdecode(safe.encode("utf-8", "replace"))
    return safe


def remove_unfinished(folder: Path, name: str = "") -> int:
    """Remove what restores into a folder left that were killed; how many files. `name`: only of that file.

    What a living process writes stays.
    """
    removed = 0
    with contextlib.suppress(OSError), os.scandir(folder) as listing:
        for entry in listing:
            match = UNFINISHED.fullmatch(entry.name)
            if match is not None and (not name or match[1] == name[:UNFINISHED_NAME]):
                removed += entry.is_file(follow_symlinks=False) and remove_unheld(Path(entry.path))
    return removed


def told_removed(count: int) -> Warned:
    return Warned(f"removed what earlier restores left unfinished: {count:,}")


class Output:
    """A file that appears under its name only once `keep` was called; `discard` leaves nothing."""

    def __init__(self, target: Path, *, replace: bool) -> None:
        """UsageError where the target is no file, or a file that may not be replaced; it is not touched.

        NotFoundError where its folder is missing; otherwise as `cannot_write`. A link itself is replaced.
        """
        self.target = target
        self.place = os.fspath(target)
        self._replace = replace
        # Most often nothing is there, and one look says so.
        there = is_device_name(target.name) or os.path.lexists(target)
        if there and (not replace or is_special(target) or os.path.isdir(target)):
            raise _exists(target)
        self.file: IO[bytes]
        try:
            self._temporary, self.file = open_held(lambda: unfinished(target))
        except FileNotFoundError:
            raise NotFoundError(f"there is no folder {target.parent}") from None
        except OSError as error:
            raise cannot_write(target.parent, error) from None

    def keep(self) -> None:
        """Give the file its name; to be called only once its whole content is proven."""
        (error,) = keep_all([self])
        if error is not None:
            raise error

    def give_name(self) -> None:
        """As `keep`, of content that is durable; the name is not yet."""
        try:
            if sys.platform == "win32":
                self.file.close()  # no open file can be renamed there
            (rename_over if self._replace else rename_new)(self._temporary, self.target)
        except FileExistsError:
            raise _exists(self.target) from None
        except OSError as error:
            raise cannot_write(self.target, error) from None
        self.file.close()

    def discard(self) -> None:
        self.file.close()
        self._temporary.unlink(missing_ok=True)


def keep_all(outputs: Sequence[Output]) -> list[Optional[TesseraError]]:
    """`keep` for each, with the fewest waits for the disk; its error, if any. What has one is discarded."""
    errors: list[Optional[TesseraError]] = []
    try:
        for output, fault in zip(outputs, sync_files([output.file.fileno() for output in outputs])):
            errors.append(_named(output, fault))
    except BaseException:  # interrupted
        for output in outputs[len(errors) :]:
            output.discard()
        raise
    refused = _sync_folders({output.target.parent for output, error in zip(outputs, errors) if error is None})
    return [error or refused.get(output.target.parent) for output, error in zip(outputs, errors)]


def _named(output: Output, fault: Optional[OSError]) -> Optional[TesseraError]:
    """Give a file its name, unless its content met a fault; with an error it is discarded."""
    try:
        if fault is not None:
            raise cannot_write(output.target, fault)
        output.give_name()
    except TesseraError as error:
        output.discard()
        return error
    return None


def _sync_folders(folders: Collection[Path]) -> dict[Path, TesseraError]:
    """Make the names in folders durable; the errors."""
    refused = {}
    for folder in folders:
        try:
            sync_folder(folder)
        except OSError as error:
            refused[folder] = cannot_write(folder, error)
    return refused


class ThroughOutput:
    """As `Output`, for stdout, a pipe, or a device such as /dev/null.

    Nothing is written to it before the whole image is proven; until then it is in a file without a name.
    """

    def __init__(self, target: Optional[Path] = None) -> None:
        """`target`: None for stdout. NoRoomError where there is no temporary folder to write to."""
        self.target = target
        self.place = _temporary_place()
        try:
            self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by keep or discard
        except OSError as error:
            raise cannot_write(self.place, error) from None

    def keep(self) -> None:
        try:
            self.file.seek(0)
            self._write_through()
        except OSError as error:
            raise cannot_write(self.target or "to stdout", error) from None
        finally:
            self.file.close()

    def _write_through(self) -> None:
        if self.target is None:
            _copy(self.file, stdout_bytes())
            return
        with open(_opened_through(self.target), "wb", buffering=0) as there:
            _copy(self.file, there)

    def discard(self) -> None:
        self.file.close()


def open_named(target: Path, *, replace: bool) -> Union[Output, ThroughOutput]:
    """The output for the path that the user named: a pipe or a character device is written to.

    Folders, sockets, disks and, on Windows, device names are never replaced; errors as of `Output`.
    """
    if _leads_to_stdout(target):
        return ThroughOutput()
    if is_device_name(target.name):
        through = target.name.lower() == _WINDOWS_NOWHERE
    else:
        through = type_at(target) in (stat.S_IFIFO, stat.S_IFCHR)
    return ThroughOutput(target) if through else Output(target, replace=replace)


def is_special(target: Path) -> bool:
    """Whether the path is neither file nor folder, or a link to such or to stdout."""
    usual = type_at(target) in (0, stat.S_IFREG, stat.S_IFDIR)
    return not usual or is_device_name(target.name) or _leads_to_stdout(target)


def _leads_to_stdout(target: Path) -> bool:
    """Whether it is a link to this process's stdout, such as /dev/stdout."""
    try:
        return target.is_symlink() and os.path.samestat(target.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):
        return False


def _opened_through(target: Path) -> int:
    """A descriptor of what exists; of a pipe once somebody reads it, OSError where nobody does."""
    flags = os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    now = RunningTime()
    end = now() + _READER_TIMEOUT
    while True:
        try:
            descriptor = os.open(target, flags)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or now() > end:
                raise
        time.sleep(_READER_PAUSE)
    if sys.platform != "win32":
        os.set_blocking(descriptor, True)
    return descriptor


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while piece := memoryview(source.read(_PIECE)):
        while piece:  # an unbuffered write may be partial
            piece = piece[target.write(piece) :]


def _temporary_place() -> str:
    """The folder of temporary files, as errors name it."""
    try:
        return f"to the temporary folder {tempfile.gettempdir()}"
    except OSError:  # there is none, as on a disk that is full
        return "to a temporary folder"


class HeldOutput:
    """As `Output`, for an image that is shown before it is saved.

    In memory up to `limit` bytes, else in an unnamed file. A failed attempt leaves what is good for the next one.
    To be closed by its owner.
    """

    target: Optional[Path] = None

    def __init__(self, limit: int) -> None:
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(limit)  # noqa: SIM115 - closed by its owner
        self.place = _temporary_place()
        self._limit = limit
        self.checkpoint = Checkpoint()  # of one encoding: another's segments may have another length
        self.size = 0  # bytes, once it is proven
        self._kept = False
        self._reading = threading.Lock()

    @property
    def proven(self) -> bool:
        """Whether it has the whole image."""
        return self._kept and self.checkpoint.segments > 0

    def keep(self) -> None:
        self.size, self._kept = self.file.tell(), True

    def discard(self) -> None:
        self.file.close()

    def leave_memory(self) -> None:
        """Move to a file, whatever the size."""
        if isinstance(self.file, tempfile.SpooledTemporaryFile):
            try:
                self.file.rollover()
            except OSError as error:
                raise cannot_write(self.place, error) from None

    def content(self) -> Optional[bytes]:
        """The whole image, in any thread; None where it is not in memory."""
        if self.size > self._limit:
            return None
        with self._reading:
            self.file.seek(0)
            return self.file.read()

    def save(self, target: Path) -> None:
        """Write it to a file, replacing one that exists, in any thread; errors as of `Output`."""
        output = open_named(target, replace=True)
        try:
            with self._reading:
                self.file.seek(0)
                _copy(self.file, output.file)
        except OSError as error:
            output.discard()
            raise cannot_write(output.place, error) from None
        except BaseException:
            output.discard()
            raise
        output.keep()


class HeldImage:
    """One image that is restored before it is saved, in several attempts.

    Each encoding that is tried has an output of its own; only the last is in memory.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: the most bytes in memory."""
        self._limit = limit
        self._outputs: dict[bytes, HeldOutput] = {}  # by the digest of the recipe, which names the encoding

    def open(self, mapping: Mapping) -> HeldOutput:
        """The output for the mapping's encoding, with what earlier attempts left in it."""
        for digest, other in self._outputs.items():
            if digest != mapping.recipe_digest:
                other.leave_memory()
        if mapping.recipe_digest not in self._outputs:
            self._outputs[mapping.recipe_digest] = HeldOutput(self._limit)
        return self._outputs[mapping.recipe_digest]

    def discard(self) -> None:
        for output in self._outputs.values():
            output.discard()
        self._outputs.clear()


def _exists(target: Path) -> UsageError:
    error = already_exists(target)
    there = os.path.isdir(target) or is_special(target)
    error.advice = "give another name with --output" if there else "write over it with --force, or use --output"
    return error


@dataclass
class Checkpoint:
    """What another attempt to restore an encoding need not fetch again.

    The first `segments` are written; `blocks`: good blocks of the next few, by segment and share.
    """

    segments: int = 0
    blocks: dict[int, Blocks] = field(default_factory=dict)

    def of(self, segment: int) -> Blocks:
        """The good blocks of a segment that is not written yet; add to it."""
        return self.blocks.setdefault(segment, {})

    def wrote(self, segment: int) -> None:
        """The next segment is written: its blocks are not needed any more."""
        self.segments = segment + 1
        self.blocks.pop(segment, None)

    def forget(self) -> None:
        """Start anew."""
        self.segments = 0
        self.blocks.clear()
