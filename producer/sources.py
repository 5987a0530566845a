"""Which files there are to store: those named, those in the folders named, and `-` for stdin.

What cannot be stored is a source too, with the reason: nothing is skipped silently. What a snapshot records beside
files (folders, links) is found in the same walk, which is made while storing, one folder in memory at a time.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

from common.errors import NotFoundError, TesseraError, UnstorableError
from common.files import TRIAL, UNFINISHED, open_regular, reading_text
from common.home import home
from common.text import decoded
from common.vault.mapping import Kind
from common.vault.tree import Entry, EntryType
from producer.choosing import is_kept
from producer.events import FailedImage, LeftOut, SkippedFile
from producer.excluding import Excluded
from producer.metadata import entry_of, entry_type

STDIN = "-"
_STORE = {"store.lock", "shares", "staging"}  # what is in a worker's store
_CACHE_TAG, _CACHE_SIGNATURE = "CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55"
_NO_BACKUP = ".nobackup"
_NO_FILES = {
    EntryType.PIPE: LeftOut.PIPE,
    EntryType.SOCKET: LeftOut.SOCKET,
    EntryType.DEVICE: LeftOut.DEVICE,
}
ROOT = 0  # the folder, of no path, whose entries are what was given


@dataclass(frozen=True)
class Source:
    """What is to be stored; `path` is None for stdin, and for what is in memory."""

    path: Optional[Path]
    shown: str  # the path as the user gave it
    name: str  # the image's name, as the mapping keeps it
    size: Optional[int] = None  # bytes; None where it shows only at the end
    fault: Optional[TesseraError] = None  # why it cannot be stored
    left_out: Optional[LeftOut] = None  # why it is skipped
    is_kept: bool = False  # also where only images are wanted, and its content is none
    content: Optional[bytes] = None  # of what is in memory: a tree, or a snapshot
    kind: Kind = None
    argument: int = 0  # which one it was found by
    folder: Optional[int] = None  # that it is in, or is the tree of; None where no snapshot has a name for it
    entry: Optional[Entry] = None  # without size and content

    @property
    def kept(self) -> bool:
        """Whether it is an image that no snapshot of this run names."""
        return self.kind is None and self.folder is None

    @property
    def outcome(self) -> Union[FailedImage, SkippedFile, None]:
        """Its outcome, where it is not to be read."""
        if self.fault is not None:
            return FailedImage(self.shown, self.fault)
        return None if self.left_out is None else SkippedFile(self.shown, self.left_out)


@dataclass(frozen=True)
class FolderFound:
    """A folder whose entries follow, until it is listed."""

    number: int
    parent: int
    entry: Entry
    shown: str


@dataclass(frozen=True)
class FolderListed:
    """All that is in the folder was found; folders in it may still be listed."""

    number: int


@dataclass(frozen=True)
class LinkFound:
    """A symbolic link, which is recorded as such."""

    folder: int
    entry: Entry
    argument: int


_Identity = tuple[int, int]  # file system, inode
Found = Union[Source, FolderFound, FolderListed, LinkFound]


@dataclass(frozen=True)
class Choice:
    """What of the folders that are named is found.

    `follow`: also what links in them lead to. `one_file_system`: not what is mounted in them.
    """

    follow: bool = False
    one_file_system: bool = False
    excluded: Optional[Excluded] = None


_ALL = Choice()


def find_sources(arguments: Iterable[str], stdin_name: str, choice: Choice = _ALL) -> Iterator[Source]:
    """The files in the order of the arguments, without a snapshot's folders and links.

    Those of a folder are sorted; links to files in it are always followed.
    """
    walk = _Walk(stdin_name, choice, record=False)
    for number, argument in enumerate(arguments):
        walk.number = number
        for found in walk.argument(argument, ROOT, None):
            if isinstance(found, Source):
                yield found


def find_all(arguments: Sequence[str], stdin_name: str, choice: Choice = _ALL) -> Iterator[Found]:
    """What a snapshot of the arguments records, and what is to be stored for that, folder by folder.

    The root folder's entries are the arguments, by their last names, or as much of their paths as tells them apart.
    """
    walk = _Walk(stdin_name, choice, record=True)
    places = root_paths([argument for argument in arguments if argument != STDIN])
    made: dict[tuple[str, ...], int] = {(): ROOT}
    for number, argument in enumerate(arguments):
        walk.number = number
        if argument == STDIN:
            yield from walk.argument(argument, ROOT, None)
            continue
        place = places.pop(located(argument), None)
        if place is None:
            continue  # it was given before, or is in what was
        if not os.path.lexists(argument) or walk.excludes(argument):
            yield from walk.argument(argument, ROOT, place[-1])
            continue
        try:
            yield from walk.above(located(argument), place, made)
        except OSError as error:
            yield walk.failed(argument, _unreadable(argument, error), ROOT)
            continue
        yield from walk.argument(argument, made[place[:-1]], place[-1])
    for folder in reversed(made.values()):
        yield FolderListed(folder)


def read_paths(file: str) -> list[str]:
    """The paths that are named in a file, `-` for stdin: separated by NUL where there is one in it, else one a line.

    Names may have any bytes; on Windows it is text. What is called `-` there is a file. Errors as of `reading_text`.
    """
    with reading_text(file):
        if file != STDIN:
            content = Path(file).read_bytes()
        elif sys.stdin is None:
            raise OSError(errno.EBADF, "stdin is closed")
        else:
            content = sys.stdin.buffer.read()
        text = decoded(content).replace("\r\n", "\n") if sys.platform == "win32" else os.fsdecode(content)
    names = filter(None, text.split("\0" if "\0" in text else "\n"))
    return [os.path.join(os.curdir, name) if name == STDIN else name for name in names]


def root_paths(arguments: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Path, as `located`, → the names under which a snapshot has it: the last, or more where others end alike.

    What is in a folder that was given as well is left out: it is found there.
    """
    parts = {path: _parts(path) for path in map(located, arguments)}
    given = set(parts.values())
    parts = {path: p for path, p in parts.items() if not any(p[:depth] in given for depth in range(1, len(p)))}
    length = dict.fromkeys(parts, 1)
    while True:
        names = {path: whole[-length[path] :] for path, whole in parts.items()}
        taken = Counter(names.values())
        above = {own[:depth] for own in names.values() for depth in range(1, len(own))}
        alike = [
            path
            for path, own in names.items()
            if taken[own] > 1 or own in above or any(own[:depth] in taken for depth in range(1, len(own)))
        ]
        longer = [path for path in alike if length[path] < len(parts[path])]
        if not longer:
            return names
        for path in longer:
            length[path] += 1


def located(path: str) -> str:
    """A path by which one file or folder is known: absolute, and led by links to its folder, not by itself."""
    folder, name = os.path.split(os.path.abspath(path))
    try:
        return os.path.join(os.path.realpath(folder), name)
    except ValueError:  # no path of this system
        return os.path.join(folder, name)


def _parts(path: str) -> tuple[str, ...]:
    """The names in an absolute path, a drive's letter among them; never none."""
    anchor = Path(path).anchor
    drive = tuple(name for name in anchor.replace(":", "").replace("\\", "/").split("/") if name)
    return drive + Path(path).parts[1:] or ("root",)


class _Folder(NamedTuple):
    """A folder that is to be listed; `above`: where links are followed, the folders that it is in."""

    number: int
    path: str
    above: tuple[_Identity, ...] = ()


class _Walk:
    """One run's look for files. `record`: also for what only a snapshot keeps."""

    def __init__(self, stdin_name: str, choice: Choice, *, record: bool) -> None:
        self._stdin_name = stdin_name
        self._choice = choice
        self._record = record
        self._home = _identity(os.fspath(home()))
        self._last = ROOT
        self.number = 0  # of the argument that is looked at

    def _next_number(self) -> int:
        """That of another folder."""
        self._last += 1
        return self._last

    def above(self, path: str, place: tuple[str, ...], made: dict[tuple[str, ...], int]) -> Iterator[Found]:
        """The folders above a path's place that are not `made` yet; OSError where one cannot be looked at."""
        for depth in range(1, len(place)):
            if place[:depth] in made:
                continue
            folder = path
            for _ in place[depth:]:
                folder = os.path.dirname(folder)
            entry = entry_of(place[depth - 1], os.stat(folder), folder, follow=True)
            made[place[:depth]] = self._next_number()
            yield FolderFound(made[place[:depth]], made[place[: depth - 1]], entry, folder)

    def excludes(self, argument: str) -> bool:
        """Whether an argument is excluded by its own name."""
        name, excluded = Path(argument).name, self._choice.excluded
        if excluded is None or name in ("", ".."):
            return False
        return excluded.has_argument(name, is_folder=os.path.isdir(argument))

    def argument(self, argument: str, folder: int, name: Optional[str]) -> Iterator[Found]:
        """What is found by an argument, to be put under this name into a folder."""
        if argument == STDIN:
            yield Source(None, STDIN, self._stdin_name, argument=self.number)
        elif self.excludes(argument):
            yield self._left_out(argument, LeftOut.EXCLUDED, folder)
        elif os.path.isdir(argument):
            yield from self._folders(argument, folder, name)
        else:
            yield self._file(argument, folder, name, partial(_is_beside, argument), named=True)

    def _folders(self, top: str, parent: int, name: Optional[str]) -> Iterator[Found]:
        """All that is in a folder, without recursion: folders may be deeper than the stack."""
        number = self._next_number()
        entries, fault = _list(top)
        if not entries and fault is None:
            empty = UnstorableError(f"{top}: an empty folder", advice="is what belongs there mounted?")
            yield self.failed(top, empty, parent)
            return
        if self._record and name is not None:
            try:
                entry = entry_of(name, os.stat(top), top, follow=True)
            except OSError as error:
                yield self.failed(top, _unreadable(top, error), parent)
                return
            yield FolderFound(number, parent, entry, top)
        folders = [_Folder(number, top)]
        file_system = (_identity(top) or (None,))[0]
        begin = len(os.path.join(top, ""))  # of a path below it
        while folders:
            here, shown, above = folders.pop()
            if here != number:
                entries, fault = _list(shown)
            names = {entry.name for entry in entries}
            identity = _identity(shown)
            reason = LeftOut.LOOP if identity in above else self._unwanted(shown, names, identity, file_system)
            if reason is not None:
                yield self._left_out(shown, reason, here)
                entries, fault = [], None
            below: list[_Folder] = []
            if fault is not None:
                yield self.failed(shown, fault, here)
            elif not entries and not self._record and reason is None:
                yield self._left_out(shown, LeftOut.EMPTY_FOLDER, here)
            if self._choice.follow and identity is not None:
                above = (*above, identity)
            for each in sorted(entries, key=lambda each: each.name):
                if self._excludes(each, each.path[begin:]):
                    yield self._left_out(each.path, LeftOut.EXCLUDED, here)
                else:
                    yield from self._in_folder(_Folder(here, shown, above), each, names, below)
            if self._record:
                yield FolderListed(here)
            folders += reversed(below)

    def _unwanted(
        self, shown: str, names: set[str], here: Optional[_Identity], file_system: Optional[int]
    ) -> Optional[LeftOut]:
        """Why what is in a folder is not stored, though it could be; `file_system`: of the one that was named."""
        if names >= _STORE or (here is not None and here == self._home):
            return LeftOut.OWN
        if self._choice.one_file_system and here is not None and file_system not in (None, here[0]):
            return LeftOut.OTHER_FILE_SYSTEM
        if _NO_BACKUP in names:
            return LeftOut.NO_BACKUP
        return LeftOut.CACHE if _CACHE_TAG in names and _is_cache(os.path.join(shown, _CACHE_TAG)) else None

    def _excludes(self, entry: os.DirEntry[str], path: str) -> bool:
        """`path`: below the argument."""
        if self._choice.excluded is None:
            return False
        is_folder = _is_folder(entry) and (self._choice.follow or not _is_link(entry))
        return self._choice.excluded.has(path, is_folder=is_folder)

    def _in_folder(
        self, here: _Folder, entry: os.DirEntry[str], names: set[str], below: list[_Folder]
    ) -> Iterator[Found]:
        """One entry of a folder with these names in it; a folder is added to `below`. `here.above`: and itself."""
        if _is_link(entry):
            why = self._dead_end(entry, here) if self._choice.follow else None
            if why is not None or (not self._choice.follow and (self._record or _is_folder(entry))):
                yield from self._link(entry, here.number, why)
                return
        if _is_folder(entry):
            if TRIAL.fullmatch(entry.name):
                yield self._left_out(entry.path, LeftOut.UNFINISHED, here.number)
                return
            below.append(_Folder(self._next_number(), entry.path, here.above))
            if self._record:
                yield self._folder(below, entry, here.number)
        else:
            yield self._file(entry.path, here.number, entry.name, names.__contains__, named=False)

    def _dead_end(self, entry: os.DirEntry[str], here: _Folder) -> Optional[LeftOut]:
        """Why a link cannot be followed; one that leads nowhere is an error where nothing can be recorded of it."""
        try:
            status = os.stat(entry.path)
        except OSError as error:
            leads_nowhere = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            return LeftOut.BROKEN_LINK if leads_nowhere and self._record else None
        return LeftOut.LOOP if (status.st_dev, status.st_ino) in here.above else None

    def _folder(self, below: list[_Folder], entry: os.DirEntry[str], parent: int) -> Found:
        follow = self._choice.follow
        try:
            known = entry_of(entry.name, entry.stat(follow_symlinks=follow), entry.path, follow=follow)
        except OSError as error:
            below.pop()
            return self.failed(entry.path, _unreadable(entry.path, error), parent)
        return FolderFound(below[-1].number, parent, known, entry.path)

    def _link(self, entry: os.DirEntry[str], folder: int, why: Optional[LeftOut]) -> Iterator[Found]:
        """A link that is not followed; `why`: though it should be."""
        if self._record:
            try:
                status = entry.stat(follow_symlinks=False)
                is_link = stat.S_ISLNK(status.st_mode)  # no junction
                if is_link:
                    yield LinkFound(folder, entry_of(entry.name, status, entry.path), self.number)
            except OSError as error:
                yield self.failed(entry.path, _unreadable(entry.path, error), folder)
                return
            if is_link and why is None:
                return
        yield self._left_out(entry.path, why or LeftOut.LINK_TO_FOLDER, folder)

    def _file(
        self, shown: str, folder: int, name: Optional[str], is_there: Callable[[str], bool], *, named: bool
    ) -> Source:
        """`is_there`: whether its folder has a file of that name."""
        path = Path(shown)
        try:
            status = os.stat(shown)
            entry = entry_of(name, status, shown, follow=True) if self._record and name is not None else None
        except (FileNotFoundError, NotADirectoryError):
            return self.failed(shown, NotFoundError(f"{shown}: no such file"), folder)
        except (OSError, ValueError) as error:
            return self.failed(shown, _unreadable(shown, error), folder)
        if stat.S_ISREG(status.st_mode):
            if not named and UNFINISHED.fullmatch(path.name):
                return self._left_out(shown, LeftOut.UNFINISHED, folder)
            here = folder if entry is not None else None
            kept = is_kept(path.name, is_there)
            return Source(
                path,
                shown,
                path.name,
                status.st_size,
                is_kept=kept,
                argument=self.number,
                folder=here,
                entry=entry,
            )
        if stat.S_ISDIR(status.st_mode):
            fault = NotFoundError(f"{shown}: became a folder while files were looked for")
            return self.failed(shown, fault, folder)
        reason = _NO_FILES[entry_type(status.st_mode)]
        if not named:
            return self._left_out(shown, reason, folder, entry)
        advice = f"to store what it gives: python producer/producer.py - < {shown}" if reason is LeftOut.PIPE else None
        return self.failed(shown, UnstorableError(f"{shown}: a {reason.value}, no file", advice=advice), folder)

    def failed(self, shown: str, fault: TesseraError, folder: int) -> Source:
        path = Path(shown)
        return Source(path, shown, path.name, fault=fault, argument=self.number, folder=self._inside(folder))

    def _left_out(self, shown: str, reason: LeftOut, folder: int, entry: Optional[Entry] = None) -> Source:
        path, here = Path(shown), self._inside(folder)
        return Source(path, shown, path.name, left_out=reason, argument=self.number, folder=here, entry=entry)

    def _inside(self, folder: int) -> Optional[int]:
        return folder if self._record else None


def _identity(path: str) -> Optional[_Identity]:
    """File system and number of a folder; None of none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _is_cache(tag: str) -> bool:
    """Whether a CACHEDIR.TAG is one (bford.info/cachedir)."""
    try:
        with open_regular(Path(tag)) as file:
            return file.read(len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
    except OSError:
        return False


def _list(folder: str) -> tuple[list[os.DirEntry[str]], Optional[TesseraError]]:
    """A folder's entries, and why there may be more."""
    entries: list[os.DirEntry[str]] = []
    try:
        with os.scandir(folder) as listing:
            entries += listing
    except OSError as error:  # what was listed before is stored
        return entries, NotFoundError(f"{folder}: cannot be read: {error.strerror}")
    return entries, None


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


def _is_beside(path: str, name: str) -> bool:
    return os.path.lexists(os.path.join(os.path.dirname(path), name))


def _unreadable(shown: str, error: Exception) -> NotFoundError:
    return NotFoundError(f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}")
