"""The packs of a store: appended to, made durable, read, gone through, removed.

Only the pack that this worker began grows; one that an earlier worker left is never written again, since its end may be
torn. A record that could be written in part only is cut off again; where not even that goes, the next record begins
another pack, as after a failed fsync nothing is written at all (`durability`). Whoever goes through a pack passes over
what is damaged.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from worker.disk import Disk
from worker.durability import Durability
from worker.layout import Layout, Place, ShareKey
from worker.pack_format import (
    FRAME_SIZE,
    MARK,
    MAX_PACK,
    Frame,
    Kind,
    decode_frame,
    encode_frame,
    frames_body,
    is_of_another_version,
    make_frame,
    pack_name,
    read_pack_name,
)

log = logging.getLogger(__name__)

_ROT = {errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)}
_PAGE = 1 << 12  # bytes
_WINDOW = 1 << 20  # bytes that are looked through for a frame at once
_MAX_OPEN = 64  # packs that are read


class _RottenError(Exception):
    """The disk reads, but not these bytes."""


class Record(NamedTuple):
    """A record to be appended."""

    kind: Kind
    key: ShareKey
    serial: int
    about: int = 0
    body: bytes = b""
    good: bool = True


class _Pack:
    """One pack's file, opened when it is first needed."""

    def __init__(self, path: Path, salt: bytes, size: int) -> None:
        self.path = path
        self.salt = salt
        self.size = size
        self.descriptor = -1


class Packs:
    def __init__(self, disk: Disk, layout: Layout, durability: Durability) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._packs: dict[int, _Pack] = {}
        self._read: deque[_Pack] = deque()  # opened for reading, the longest open first
        self._growing: Optional[int] = None
        self._last = 0  # the highest number that a pack ever had
        self._synced = 0  # bytes of the growing pack that are durable
        self._named = True  # whether the name of the growing pack is durable
        self.unread: set[int] = set()  # packs of which something could not be read, and may be later
        self._gone = False  # a pack's name went, and that is not durable yet

    def load(self) -> None:
        """List the packs; OSError where that cannot be."""
        for entry in self._disk.entries(self._layout.packs):
            read = read_pack_name(entry.path.name)
            if read is not None:
                self._packs[read[0]] = _Pack(entry.path, read[1], entry.size)
            elif is_of_another_version(entry.path.name):
                self._durability.serve_only(f"{entry.path.name} was written by another version of the worker")

    def pass_number(self, number: int) -> None:
        """Begin no pack whose number is not above this one."""
        self._last = max(self._last, number)

    @property
    def sizes(self) -> dict[int, int]:
        """Number → bytes, in order."""
        return {number: self._packs[number].size for number in sorted(self._packs)}

    @property
    def growing(self) -> Optional[int]:
        return self._growing

    # --- appending

    def append(self, records: Sequence[Record]) -> list[Place]:
        """Append records; where their bodies lie. They are not durable before `sync`.

        OSError where the disk refuses, and nothing of them is there then.
        """
        number, pack = self._writable()
        places: list[Place] = []
        pieces: list[bytes] = []
        start = end = pack.size
        for record in records:
            kind, key, serial, about, body, good = record
            pieces += [encode_frame(make_frame(kind, key, serial, about, body, good=good), pack.salt), body]
            end += FRAME_SIZE
            places.append(Place(number, end, len(body)))
            end += len(body)
        try:
            self._disk.append(pack.descriptor, b"".join(pieces))
        except OSError:
            self._cut(pack, start)
            raise
        pack.size = end
        return places

    def _writable(self) -> tuple[int, _Pack]:
        """The growing pack, a new one where there is none or it is full."""
        if self._growing is not None and self._packs[self._growing].size < MAX_PACK:
            return self._growing, self._packs[self._growing]
        self._stop_growing()
        self._last = max(self._last, *self._packs) + 1 if self._packs else self._last + 1
        number, salt = self._last, secrets.token_bytes(8)
        pack = _Pack(self._layout.packs / pack_name(number, salt), salt, 0)
        pack.descriptor = self._disk.create(pack.path)
        self._packs[number], self._growing, self._named, self._synced = pack, number, False, 0
        return number, pack

    def _stop_growing(self) -> None:
        if self._growing is not None:
            self._read.append(self._packs[self._growing])
            self._growing = None

    def _cut(self, pack: _Pack, length: int) -> None:
        try:
            self._disk.truncate(pack.descriptor, length)
        except OSError as error:
            log.warning("%s ends in a record that could not be written, and the next one begins: %s", pack.path, error)
            pack.size = self._size(pack, length)
            self._stop_growing()
        else:
            pack.size = length

    def _size(self, pack: _Pack, known: int) -> int:
        try:
            return self._disk.size(pack.descriptor)
        except OSError:
            return known

    def sync(self) -> None:
        """Make all that was appended durable; OSError where the disk refuses, and nothing is written after that."""
        if self._growing is None:
            return
        pack = self._packs[self._growing]
        try:
            self._durability.sync_file(pack.descriptor)
        except OSError:
            self._cut(pack, self._synced)  # it was not acknowledged, and need not come back
            pack.size = self._synced
            raise
        self._synced = pack.size
        if not self._named:
            self._durability.sync_folder(self._layout.packs)
            self._named, self._gone = True, False

    # --- reading

    def read_at(self, number: int, offset: int, length: int) -> bytes:
        """Bytes of a pack; fewer only at its end. OSError where it cannot be read, or is not there."""
        return self._disk.read_at(self._opened(number).descriptor, offset, length)

    def body(self, place: Place) -> bytes:
        return self.read_at(place.pack, place.offset, place.length)

    def whole(self, key: ShareKey, serial: int, place: Place) -> Optional[bytes]:
        """The body of a share's record, read at once; None where it is not what was written. OSError as `read_at`."""
        read = self.read_at(place.pack, place.offset - FRAME_SIZE, FRAME_SIZE + place.length)
        frame, body = read[:FRAME_SIZE], read[FRAME_SIZE:]
        return body if frames_body(frame, key, serial, body) else None

    def uncache(self, place: Place) -> None:
        self._disk.uncache(self._opened(place.pack).descriptor, place.offset, place.length)

    def frame(self, place: Place) -> Optional[Frame]:
        """The frame of the record whose body lies there; None where it is damaged."""
        frame = self.read_at(place.pack, place.offset - FRAME_SIZE, FRAME_SIZE)
        return decode_frame(frame, self._packs[place.pack].salt)

    def frames(self, number: int, start: int = 0) -> Iterator[tuple[Frame, Place]]:
        """Each record from an offset on, what is damaged left out; a body may be damaged all the same."""
        self._opened(number)
        while (found := self._next_frame(number, start)) is not None:
            frame, offset = found
            start = offset + FRAME_SIZE + frame.length
            yield frame, Place(number, offset + FRAME_SIZE, frame.length)

    def _next_frame(self, number: int, offset: int) -> Optional[tuple[Frame, int]]:
        """The first frame that begins at an offset or behind it, and where; None where none does."""
        pack, length = self._packs[number], FRAME_SIZE  # it is there, mostly
        while offset + FRAME_SIZE <= pack.size:
            window = self._readable(number, offset, length)
            at = window.find(MARK)
            while 0 <= at <= len(window) - FRAME_SIZE:
                frame = decode_frame(window[at : at + FRAME_SIZE], pack.salt)
                if frame is not None and offset + at + FRAME_SIZE + frame.length <= pack.size:
                    return frame, offset + at
                at = window.find(MARK, at + 1)
            offset, length = offset + max(1, len(window) - FRAME_SIZE + 1), _WINDOW
        return None

    def _readable(self, number: int, offset: int, length: int) -> bytes:
        """Bytes of a pack, with zeros for pages that cannot be read."""
        with contextlib.suppress(_RottenError):
            return self._read_or_rotten(number, offset, length)
        self.unread.add(number)
        pieces: list[bytes] = []
        end = min(offset + length, self._packs[number].size)
        while offset < end:
            size = min(_PAGE - offset % _PAGE, end - offset)
            try:
                pieces.append(self._read_or_rotten(number, offset, size))
            except _RottenError:
                pieces.append(bytes(size))
            offset += size
        return b"".join(pieces)

    def _read_or_rotten(self, number: int, offset: int, length: int) -> bytes:
        try:
            return self.read_at(number, offset, length)
        except OSError as error:
            if error.errno in _ROT:
                raise _RottenError from None
            raise

    def _opened(self, number: int) -> _Pack:
        pack = self._packs.get(number)
        if pack is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"pack {number}")
        if pack.descriptor < 0:
            while len(self._read) >= _MAX_OPEN:
                self._close(self._read.popleft())
            pack.descriptor = self._disk.open(pack.path)
            self._read.append(pack)
        return pack

    # --- the end

    def remove(self, number: int) -> None:
        """Remove a pack of which nothing is needed any more; durable with the next `sync_names`."""
        pack = self._packs.pop(number)
        self._close(pack)
        with contextlib.suppress(ValueError):
            self._read.remove(pack)
        self._gone = True
        self._disk.remove(pack.path)

    def sync_names(self) -> None:
        if self._gone:
            self._durability.sync_folder(self._layout.packs)
            self._gone = False

    def close(self) -> None:
        for pack in self._packs.values():
            self._close(pack)

    def _close(self, pack: _Pack) -> None:
        descriptor, pack.descriptor = pack.descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # what counts was fsynced
                self._disk.close(descriptor)
