"""Folders as hypothesis makes them up, on disk; and what of one is to come back."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

from hypothesis import strategies as st

_NS = 1_000_000_000

# Names of any bytes, and those that are alike in some way.
_ODD = [
    b"a",
    b"A",
    b"a.jpg",
    b"b.JPG",
    b".hidden",
    b"x" * 255,
    b"\xff\xfe.png",
    "é".encode(),
    "é".encode(),
    b"a b\n",
    b"-",
    b"~",
]
names = st.one_of(
    st.sampled_from(_ODD),
    st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & {*name} and name not in (b".", b"..")),
)
contents = st.one_of(st.sampled_from([b"", b"twin", b"x" * 5000]), st.binary(max_size=40))
times = st.one_of(
    st.integers(-2 * _NS, 2 * _NS),
    st.integers(1_500_000_000 * _NS, 1_900_000_000 * _NS),
    st.sampled_from([-(2**31) * _NS, 2**33 * _NS + 1, 9_300_000_000 * _NS + 999_999_999]),  # 1901; 2242; 2264
)
modes = st.sampled_from([0o600, 0o644, 0o755, 0o444, 0o4755])


@dataclass
class File:
    content: bytes
    mode: int
    modified: int
    attributes: dict[str, bytes]
    twin: bool  # a hard link to the file before it, where there is one


@dataclass
class Link:
    target: bytes


@dataclass
class Folder:
    mode: int
    modified: int
    entries: dict[bytes, Union[File, Link, Folder]] = field(default_factory=dict)


attributes = st.dictionaries(st.sampled_from(["user.a", "user.note"]), st.binary(max_size=20), max_size=2)
files = st.builds(File, contents, modes, times, st.one_of(st.just({}), attributes), st.booleans())
links = st.builds(Link, st.one_of(st.just(b"a"), st.just(b"../nowhere"), names))
folder_modes = st.sampled_from([0o755, 0o700, 0o750, 0o2755])


def folders(depth: int = 3) -> st.SearchStrategy[Folder]:
    entries: st.SearchStrategy[Union[File, Link, Folder]] = st.one_of(files, files, links)
    if depth:
        entries = st.one_of(files, files, links, folders(depth - 1))
    return st.builds(Folder, folder_modes, times, st.dictionaries(names, entries, max_size=4))


def make(folder: Folder, at: bytes) -> None:
    """Make it on disk, with all times set as they should be."""
    before: list[bytes] = []
    os.mkdir(at)
    for name, entry in folder.entries.items():
        path = os.path.join(at, name)
        if isinstance(entry, Folder):
            make(entry, path)
        elif isinstance(entry, Link):
            os.symlink(entry.target, path)
        elif entry.twin and before:
            os.link(before[-1], path)
        else:
            _make_file(entry, path)
            before.append(path)
    os.chmod(at, folder.mode)
    os.utime(at, ns=(folder.modified, folder.modified))


def _make_file(entry: File, path: bytes) -> None:
    with open(path, "wb") as file:
        file.write(entry.content)
    if sys.platform == "linux":
        for name, value in entry.attributes.items():
            os.setxattr(path, name, value)
    os.chmod(path, entry.mode)
    os.utime(path, ns=(entry.modified, entry.modified))


def described(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Path → all that has to come back: type, mode, times, size, content, target, attributes, and its hard links."""
    found = {}
    by_inode: dict[tuple[int, int], list[bytes]] = {}
    start = os.fsencode(root)
    for path in _walk(start):
        status = os.lstat(path)
        here = os.path.relpath(path, start)
        is_link = stat.S_ISLNK(status.st_mode)
        content = b""
        if stat.S_ISREG(status.st_mode):
            by_inode.setdefault((status.st_dev, status.st_ino), []).append(here)
            with open(path, "rb") as file:
                content = file.read()
        attributes = {}
        if sys.platform == "linux":
            attributes = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
        found[here] = (
            stat.S_IFMT(status.st_mode),
            None if is_link else stat.S_IMODE(status.st_mode),
            status.st_mtime_ns,
            content,
            os.readlink(path) if is_link else None,
            tuple(sorted(attributes.items())),
        )
    linked = {path: tuple(sorted(paths)) for paths in by_inode.values() for path in paths}
    return {path: (*known, linked.get(path, ())) for path, known in found.items()}


def _walk(start: bytes) -> Iterator[bytes]:
    yield start
    for folder, folders_in_it, files_in_it in os.walk(start):
        for name in [*folders_in_it, *files_in_it]:
            yield os.path.join(folder, name)
