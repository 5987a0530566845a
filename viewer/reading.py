"""What a reader of headers tells of a file, and how the readers read: bounded, each piece where it is said to be."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Optional

from common.facts import Facts

MAX_METADATA = 1 << 20  # bytes of one piece of metadata
MAX_STEPS = 2000  # boxes, directories, elements, lines of one file


class MalformedError(Exception):
    """A file is not what its first bytes say, or has more of something than is read."""


@dataclass(frozen=True)
class Piece:
    """Bytes of a file: from where, and how many."""

    offset: int
    length: int


@dataclass(frozen=True)
class Header:
    """What a file's header tells.

    previews: the JPEGs in it, the largest first. media_type: where it is known better than by the first bytes.
    thumbnail: a file of its own, of the same format, upright as the image is.
    """

    width: Optional[int] = None
    height: Optional[int] = None
    facts: Facts = field(default_factory=Facts)
    previews: Sequence[Piece] = ()
    media_type: Optional[str] = None
    thumbnail: Optional[bytes] = None


def length_of(file: IO[bytes]) -> int:
    return file.seek(0, io.SEEK_END)


def read_at(file: IO[bytes], offset: int, length: int) -> bytes:
    """So many bytes from there; MalformedError where there are fewer, or it is more than metadata ever have."""
    if length > MAX_METADATA:
        raise MalformedError(f"{length} bytes of metadata")
    file.seek(offset)
    content = file.read(length)
    if len(content) < length:
        raise MalformedError("it ends before its metadata do")
    return content


def largest_first(previews: Sequence[Piece]) -> list[Piece]:
    return sorted(previews, key=lambda piece: -piece.length)


def is_jpeg(file: IO[bytes], piece: Piece) -> bool:
    try:
        return read_at(file, piece.offset, 3) == b"\xff\xd8\xff"
    except MalformedError:
        return False
