"""What lies in a store's folder, read from outside: of a worker that was stopped, or killed, or that runs.

Packs and files are gone through in the order of serials, as a worker does that has no index. The index is believed in
what it alone says, which shares are surplus or damaged: in a copy of it, since a worker that runs holds its own.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

from common.errors import IntegrityError
from common.protocol.messages import Tombstone
from worker.disk import Disk
from worker.durability import Durability
from worker.layout import Layout, Place, ShareKey, read_share_name
from worker.pack_format import FRAME_SIZE, Frame, Kind, encode_frame, make_frame, read_pack_name
from worker.packs import Packs
from worker.reading import OpenShare
from worker.share_states import State
from worker.tombstones import decode_tombstone

_ATTEMPTS = 20


@dataclass(frozen=True)
class ShareRecord:
    """One copy of a committed share: a part of a pack, or a file of its own. Stored anew, it is another."""

    device: str  # the folder's name
    encoding: str  # its id in hex
    share: int
    serial: int
    path: Path = field(compare=False)
    offset: int = field(compare=False)
    length: int = field(compare=False)
    amendment: Optional[bytes] = field(compare=False, default=None)

    @property
    def key(self) -> ShareKey:
        return bytes.fromhex(self.encoding), self.share

    @property
    def in_pack(self) -> bool:
        return self.path.parent.name == "packs"

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)

    def write(self, content: bytes, at: int = 0) -> None:
        """Overwrite bytes of it in place, as a disk would: a worker that has it open sees it. Below 0: from its end."""
        at = at if at >= 0 else self.length + at
        assert at + len(content) <= self.length
        with self.path.open("r+b") as file:
            file.seek(self.offset + at)
            file.write(content)

    def flip(self, at: int, bits: int = 0x40) -> None:
        """Flip bits of a byte."""
        self.write(bytes([self.read()[at] ^ bits]), at)

    def replace(self, content: bytes) -> None:
        """Overwrite all of it; what is shorter ends in zeros in a pack, whose records keep their places."""
        if self.in_pack:
            self.write(content[: self.length].ljust(self.length, b"\0"))
            return
        with self.path.open("r+b") as file:
            file.write(content)
            file.truncate()

    def seal(self) -> None:
        """Have its frame, where it is in a pack, say that these bytes were written."""
        if not self.in_pack:
            return
        named = read_pack_name(self.path.name)
        assert named is not None
        frame = make_frame(Kind.SHARE, self.key, self.serial, 0, self.read())
        with self.path.open("r+b") as file:
            file.seek(self.offset - FRAME_SIZE)
            file.write(encode_frame(frame, named[1]))

    def lose(self) -> None:
        """Have it gone from the disk."""
        if not self.in_pack:
            self.path.unlink()
            return
        with self.path.open("r+b") as file:
            file.seek(self.offset - FRAME_SIZE)
            file.write(bytes(FRAME_SIZE + self.length))

    def opened(self) -> OpenShare:
        """The share as its worker reads it; IntegrityError where it is not that whole share, OSError as the disk does.

        Its blocks are those that are there now.
        """
        return OpenShare(RecordContent(self.read()), self.key, self.amendment)

    def object_id(self) -> Optional[bytes]:
        """What it is a share of; None where it is not whole, every block good."""
        try:
            opened = self.opened()
            for segment in range(opened.information.recipe.segment_count):
                opened.block(segment)
        except (IntegrityError, OSError):
            return None
        return bytes(opened.commitment.object_id)

    def is_whole(self) -> bool:
        return self.object_id() is not None


class RecordContent:
    """A record's bytes, as the worker's reader takes them."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    def uncache(self) -> None: ...

    def close(self) -> None: ...


def held_in(folder: Path) -> set[ShareRecord]:
    """What a store holds, and has not found to be damaged."""
    return {record for record, state in shares_in(folder).items() if state in (State.HELD, State.LEFT_ALONE)}


def shares_in(folder: Path) -> dict[ShareRecord, State]:
    """All that lies in a store, and in which state."""
    for _ in range(_ATTEMPTS):
        try:
            states = _states(folder)
            shares = _Look(folder).shares()
        except (FileNotFoundError, sqlite3.DatabaseError):  # a pack or a file went meanwhile, or the index changed
            continue
        alone = (State.SURPLUS, State.DAMAGED, State.LEFT_ALONE)
        said = {record: states.get(record.serial, state) for record, state in shares.items()}
        return {record: said[record] if said[record] in alone else state for record, state in shares.items()}
    raise AssertionError(f"{folder} changes all the time")


class _Look:
    """Follows the records of packs, and the files, in the order of serials."""

    def __init__(self, folder: Path) -> None:
        self._layout = Layout(folder)
        disk = Disk()
        self._packs = Packs(disk, self._layout, Durability(disk, folder))
        self._paths = {int(path.name.split(".")[0]): path for path in self._layout.packs.iterdir()}
        self._shares: dict[int, tuple[ShareRecord, State]] = {}  # by serial
        self._held: dict[ShareKey, int] = {}

    def shares(self) -> dict[ShareRecord, State]:
        self._packs.load()
        try:
            for frame, place in sorted(self._found(), key=lambda found: found[0].serial):
                if frame.kind is Kind.SHARE:
                    self._enter(self._record(frame, place))
                elif frame.kind is Kind.REMOVAL:
                    self._shares.pop(frame.about, None)
                elif frame.kind is Kind.TOMBSTONE:
                    self._settle(decode_tombstone(self._packs.body(place)).tombstone)
                elif frame.kind is Kind.AMENDMENT and frame.about in self._shares:
                    record, state = self._shares[frame.about]
                    self._shares[frame.about] = replace(record, amendment=self._packs.body(place)), state
        finally:
            self._packs.close()
        return dict(self._shares.values())

    def _found(self) -> Iterator[tuple[Frame, Place]]:
        for number in self._packs.sizes:
            yield from self._packs.frames(number)
        for path in self._layout.shares.glob("*/*"):
            read = read_share_name(path.name)
            if read is not None:
                size = path.stat().st_size
                yield Frame(Kind.SHARE, *read[0], read[1], 0, size, b""), Place(0, 0, size)

    def _record(self, frame: Frame, place: Place) -> ShareRecord:
        key = frame.encoding_id, frame.share
        path = self._paths[place.pack] if place.pack else self._layout.share(key, frame.serial)
        names = self._layout.folder.name, frame.encoding_id.hex(), frame.share, frame.serial
        return ShareRecord(*names, path, place.offset, place.length)

    def _enter(self, record: ShareRecord) -> None:
        """One that is stored anew takes the place of the one that is held."""
        before = self._held.get(record.key, record.serial)
        if before != record.serial and before in self._shares and self._shares[before][1] is State.HELD:
            del self._shares[before]
        self._shares[record.serial], self._held[record.key] = (record, State.HELD), record.serial

    def _settle(self, tombstone: Tombstone) -> None:
        """What was committed before is as its owner's tombstone says."""
        name = tombstone.encoding_id.hex()
        for serial, (record, _) in self._shares.items():
            if record.encoding == name and _owner(record) in (tombstone.owner, None):
                self._shares[serial] = record, State.DELETED if tombstone.deleted else State.HELD


def _owner(record: ShareRecord) -> Optional[bytes]:
    """None where it is too damaged to tell."""
    try:
        return bytes(record.opened().commitment.owner)
    except (IntegrityError, OSError):
        return None


def _states(folder: Path) -> dict[int, State]:
    """What the index says of shares that are not simply held, by their serials.

    sqlite3.DatabaseError where it changes meanwhile.
    """
    index = Layout(folder).index
    if not index.exists():
        return {}
    with tempfile.TemporaryDirectory() as copies:
        copy = Path(copies) / index.name
        before = index.stat()
        for ending in ("", "-wal"):
            part = index.with_name(index.name + ending)
            if part.exists():
                shutil.copyfile(part, copy.with_name(part.name))
        if (index.stat().st_mtime_ns, index.stat().st_size) != (before.st_mtime_ns, before.st_size):
            raise sqlite3.DatabaseError("it was written meanwhile")
        with contextlib.closing(sqlite3.connect(copy)) as database:
            rows = database.execute("SELECT serial, state FROM share WHERE state > ?", (State.HELD,)).fetchall()
    return {serial: State(state) for serial, state in rows}
