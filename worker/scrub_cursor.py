"""How far the scrub has come in its round: `<store>/scrub.json`.

It is a convenience. Where it is missing or does not read, the round begins anew.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Optional

import msgspec

from worker.disk import Disk
from worker.durability import Durability
from worker.layout import read_key

log = logging.getLogger(__name__)

_VERSION = 1
_MAX_SIZE = 4096
_Count = Annotated[int, msgspec.Meta(ge=0)]


class ScrubCursor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The state of a round; the names of the fields are those in the file."""

    began: _Count  # Unix seconds
    after: Optional[str] = None  # the name of the last share that was read
    shares: _Count = 0  # read in this round
    bytes: _Count = 0  # read in this round
    damaged: _Count = 0  # of the shares
    version: int = _VERSION

    def read(self, size: int) -> ScrubCursor:
        return msgspec.structs.replace(self, bytes=self.bytes + size)

    def passed(self, name: str, *, damaged: bool) -> ScrubCursor:
        return msgspec.structs.replace(
            self, after=name, shares=self.shares + 1, damaged=self.damaged + (1 if damaged else 0)
        )


def load_cursor(disk: Disk, path: Path) -> Optional[ScrubCursor]:
    """What the file says; None where it says nothing."""
    try:
        cursor = msgspec.json.decode(disk.read_whole(path, _MAX_SIZE), type=ScrubCursor)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.warning("%s does not read, so the scrub begins anew: %s", path, error)
        return None
    if cursor.version != _VERSION or (cursor.after is not None and read_key(cursor.after) is None):
        return None
    return cursor


def save_cursor(durability: Durability, path: Path, cursor: ScrubCursor) -> None:
    """Write it, whole or not at all; OSError where the disk refuses."""
    durability.write(path, msgspec.json.format(msgspec.json.encode(cursor)) + b"\n")
