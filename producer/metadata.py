"""What a tree keeps of a file beside its content: name, type, mode, times, links, extended attributes."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Optional

from common.vault.tree import MAX_ATTRIBUTES, Attribute, Entry, EntryType, HardLink

_WORD = 2**64 - 1
_NS = 1_000_000_000
_OF_THIS_MACHINE = (b"security.selinux", b"security.ima", b"security.evm")  # another makes its own


def entry_type(mode: int) -> EntryType:
    """By `st_mode`."""
    if stat.S_ISREG(mode):
        return EntryType.FILE
    if stat.S_ISDIR(mode):
        return EntryType.FOLDER
    if stat.S_ISLNK(mode):
        return EntryType.LINK
    if stat.S_ISFIFO(mode):
        return EntryType.PIPE
    return EntryType.SOCKET if stat.S_ISSOCK(mode) else EntryType.DEVICE


def entry_of(name: str, status: os.stat_result, path: str, *, follow: bool = False) -> Entry:
    """The entry of what has this status and path, as yet without size and content.

    `follow`: the status is that of what a link leads to. OSError where a link cannot be read.
    """
    kind = entry_type(status.st_mode)
    modified, nanoseconds = divmod(status.st_mtime_ns, _NS)
    return Entry(
        os.fsencode(name),
        kind,
        stat.S_IMODE(status.st_mode),
        modified,
        nanoseconds,
        target=os.fsencode(os.readlink(path)) if kind is EntryType.LINK else None,
        attributes=_attributes(path, follow=follow),
        hard_link=_hard_link(kind, status),
    )


def _hard_link(kind: EntryType, status: os.stat_result) -> Optional[HardLink]:
    if kind is not EntryType.FILE or status.st_nlink < 2:
        return None
    return HardLink(status.st_dev & _WORD, status.st_ino & _WORD)


def _attributes(path: str, *, follow: bool) -> tuple[Attribute, ...]:
    """The extended attributes, sorted; none where the platform has none, or they are more than a tree keeps."""
    if sys.platform != "linux":
        return ()
    try:
        listed = os.listxattr(path, follow_symlinks=follow)
        if not listed:
            return ()
        names = sorted(set(map(os.fsencode, listed)) - {*_OF_THIS_MACHINE})
        found = tuple(Attribute(name, os.getxattr(path, name, follow_symlinks=follow)) for name in names)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA, errno.EACCES, errno.EPERM, errno.ENOENT):
            return ()
        raise
    return found if sum(len(each.name) + len(each.value) for each in found) <= MAX_ATTRIBUTES else ()
