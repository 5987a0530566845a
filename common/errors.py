"""What can go wrong, sorted by what the caller can do about it.

    TesseraError                    1  internal fault
    ├── UsageError                  2  the command or its arguments are wrong
    ├── NotFoundError               3  no such image or file
    ├── IntegrityError              4  damaged beyond repair, or not what it claims to be
    │   └── ProtocolError           4  a peer sent what the protocol does not allow
    ├── NotEnoughError              5  too few devices or shares
    ├── RefusedError                6  wrong passphrase or key, or not admitted
    ├── UnreachableError            7  no broker, or no answer in time
    ├── NoRoomError                 8  no device has room, or nothing can be written to a path
    ├── NotAgreedError              9  the user was asked, and said no
    └── UnstorableError            10  nothing that could be stored

Each class carries the exit code of the programs and the advice that a user gets; both are attributes, since
docstrings are gone under `python -OO`. One place turns them into an exit: `common.process.program.run`.
"""

from __future__ import annotations

import errno
from typing import Optional


class TesseraError(Exception):
    """Anything Tessera reports to a user; the message says what happened, and to which image or device."""

    exit_code: int = 1
    advice: Optional[str] = None

    def __init__(self, message: str, *, advice: Optional[str] = None) -> None:
        super().__init__(message)
        if advice is not None:
            self.advice = advice


class UsageError(TesseraError):
    exit_code = 2


class NotFoundError(TesseraError):
    exit_code = 3


class IntegrityError(TesseraError):
    exit_code = 4


class ProtocolError(IntegrityError):
    advice = "check that every device runs the same version of Tessera"


class NotEnoughError(TesseraError):
    exit_code = 5
    advice = "see which devices are alive with: python admin/admin.py status"


class RefusedError(TesseraError):
    exit_code = 6


class UnreachableError(TesseraError):
    exit_code = 7
    advice = "check that the broker runs and that its address is right"


class NoRoomError(TesseraError):
    exit_code = 8
    advice = "free some space, raise a worker's --capacity or --owner-quota, or add a device"


class NotAgreedError(TesseraError):
    exit_code = 9


class UnstorableError(TesseraError):
    exit_code = 10


def kind_of(exit_code: int) -> type[TesseraError]:
    """The class of the error that ended a program with this exit code; TesseraError where none has it."""
    kinds = (
        UsageError,
        NotFoundError,
        IntegrityError,
        NotEnoughError,
        RefusedError,
        UnreachableError,
        NoRoomError,
        NotAgreedError,
        UnstorableError,
    )
    return {kind.exit_code: kind for kind in kinds}.get(exit_code, TesseraError)


_CANNOT_BE_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_NO_SUCH_NAME = (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


class UnwritableError(OSError):
    """The system refused to write a file; `filename` is its own path, not that of the temporary one."""


def cannot_write(path: object, error: OSError) -> TesseraError:
    """The error for a file that cannot be written, and must be.

    NoRoomError for a disk that is full, read-only or broken, and for a file that this user may not write; UsageError
    where no file can have the path.
    """
    kind = UsageError if error.errno in _NO_SUCH_NAME else NoRoomError
    advice = "make room or make it writable there, or choose another place" if kind is NoRoomError else None
    return kind(f"cannot write {path}: {error.strerror or error}", advice=advice)


def refused_by_system(error: OSError) -> Optional[TesseraError]:
    """The error for an OSError that nothing nearer to its cause has handled.

    NoRoomError where nothing can be written, be the disk full or read-only; NotFoundError where a path is not there;
    IntegrityError where its bytes cannot be read; UsageError for whatever else a path is or does not allow. None where
    it concerns neither a path nor room: a fault of the program.
    """
    path = error.filename2 or error.filename
    if isinstance(error, UnwritableError) or error.errno in _CANNOT_BE_WRITTEN:
        return cannot_write(path or "the output", error)
    if path is None:
        return None
    kind = {errno.ENOENT: NotFoundError, errno.EIO: IntegrityError}.get(error.errno or 0, UsageError)
    return kind(f"cannot use {path}: {error.strerror}")
