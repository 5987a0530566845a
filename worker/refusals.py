"""The answers to what the store refuses."""

from __future__ import annotations

import errno
import os

from common.protocol.messages import Answer, Code


class Refusal(Exception):
    """The store refuses an operation, with this answer."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(code, text[:500])


def disk_answer(error: Exception) -> Answer:
    """What to answer where the operating system refuses, or what lies there is of a version that is not known."""
    if not isinstance(error, OSError):
        return Answer(Code.FAULT, str(error))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Answer(Code.NO_ROOM, "the disk is full, or has no inode left")
    return Answer(Code.FAULT, f"the disk refuses: {reason(error)}")


def reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "no reason given"
