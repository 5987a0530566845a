"""By what a file is recognised without reading it: path, size, inode, and when it last changed.

Any program can set the time of modification, so a file's contents may change while its path, size and that time stay.
No program sets at will the time of the last change of status (POSIX.1-2017, sys/stat.h, `st_ctim`; ChangeTime in
Windows' FILE_BASIC_INFO), nor which inode a name leads to. Where there is a doubt the file is read again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Optional, Union

from common.files import status_changed_ns

_WORD = 2**64 - 1
_YOUNG = 2_000_000_000  # ns: no clock of a file system is coarser


class Stamp(NamedTuple):
    """A file as it was at one moment. Times in ns.

    Times and inode are kept modulo 2^64: a file may be dated 2600 or 1066, and Windows has inodes of 128 bits.
    """

    path: bytes  # absolute, as the file system has it; a link is left a link
    size: int
    modified: int
    changed: Optional[int]  # None where that does not tell whether the file is the same
    inode: int

    @classmethod
    def of(cls, path: Path, status: os.stat_result, file: Union[Path, int, None] = None) -> Stamp:
        """The stamp of a file with this status; `file` is its descriptor where it is open. OSError where it is gone."""
        changed = status_changed_ns(status, path if file is None else file)
        return cls(
            os.fsencode(os.path.abspath(path)),
            status.st_size,
            status.st_mtime_ns & _WORD,
            None if changed is None else changed & _WORD,
            status.st_ino & _WORD,
        )

    def proving_from(self, now: int) -> Stamp:
        """The stamp for an index of a file that is read from `now` on (Unix ns).

        Where the last change is so young that one during the reading may bear the same time, it proves nothing.
        """
        young = self.changed is not None and self.changed > now - _YOUNG
        return self._replace(changed=None) if young else self
