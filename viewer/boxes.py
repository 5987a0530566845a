"""Files made of boxes (ISO/IEC 14496-12): CR3, JPEG XL, JPEG 2000, MP4 and QuickTime; HEIF in a module of its own."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import IO, Optional

from common.facts import DEGREE
from viewer.codestream import size_of_j2c, size_of_jxl
from viewer.exif import Directory, Tiff, camera_of, facts_in, facts_of, sound
from viewer.reading import (
    MAX_STEPS,
    Header,
    MalformedError,
    Piece,
    is_jpeg,
    largest_first,
    length_of,
    read_at,
)

_CANON = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_CANON_PREVIEW = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
_TURNS = {(0, 1): 6, (0, -1): 8, (-1, 0): 3}  # the first row of the matrix of a track → Exif's orientation
_BEGINNING = datetime(1904, 1, 1, tzinfo=timezone.utc)
_PLACE = re.compile(r"([+-]\d{1,2}(?:\.\d+)?)([+-]\d{1,3}(?:\.\d+)?)")  # ISO 6709
_OFFSET = re.compile(r"([+-]\d\d):?(\d\d)$")
_KEYS = {
    b"com.apple.quicktime.creationdate": "taken",
    b"com.apple.quicktime.make": "make",
    b"com.apple.quicktime.model": "model",
    b"com.apple.quicktime.location.ISO6709": "place",
}


@dataclass(frozen=True)
class Box:
    kind: bytes
    start: int  # of its content
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def boxes(file: IO[bytes], start: int, end: int) -> Iterator[Box]:
    """The boxes between two places, without what is in them; a bounded number."""
    for _ in range(MAX_STEPS):
        if start + 8 > end:
            return
        size, kind = struct.unpack(">I4s", read_at(file, start, 8))
        head = 8
        if size == 1:
            (size,) = struct.unpack(">Q", read_at(file, start + 8, 8))
            head = 16
        elif size == 0:
            size = end - start
        if size < head:
            raise MalformedError("a box is shorter than its head")
        yield Box(kind, start + head, min(start + size, end))
        start += size


def boxes_in(file: IO[bytes], box: Box, skipped: int = 0) -> dict[bytes, Box]:
    """The boxes in a box by their kind, of several the first."""
    found: dict[bytes, Box] = {}
    for below in boxes(file, box.start + skipped, box.end):
        found.setdefault(below.kind, below)
    return found


def content_of(file: IO[bytes], box: Optional[Box]) -> bytes:
    return b"" if box is None else read_at(file, box.start, box.length)


class Reader:
    """The numbers of a box, one after the other; MalformedError where it ends before them."""

    def __init__(self, content: bytes) -> None:
        self._content, self._position = content, 0

    def take(self, length: int) -> bytes:
        taken = self._content[self._position : self._position + length]
        if len(taken) < length:
            raise MalformedError("a box ends too early")
        self._position += length
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")


# --- CR3


def read_cr3(file: IO[bytes]) -> Header:
    """Canon's raw files: the directories of their Exif are TIFFs of their own (https://github.com/lclevy/canon_cr3)."""
    metadata: dict[bytes, Box] = {}
    previews: list[Piece] = []
    for box in boxes(file, 0, length_of(file)):
        if box.kind == b"moov":
            metadata = _below_uuid(file, boxes_in(file, box).get(b"uuid"), _CANON)
        elif box.kind == b"uuid":
            previews += _jpeg_of(file, _below_uuid(file, box, _CANON_PREVIEW, 8).get(b"PRVW"))
    previews += _jpeg_of(file, metadata.get(b"THMB"))
    main, exif, gps = (
        Tiff(io.BytesIO(content_of(file, metadata[kind]))).main if kind in metadata else Directory()
        for kind in (b"CMT1", b"CMT2", b"CMT4")
    )
    width, height = main.get(0x100), main.get(0x101)
    return Header(width, height, facts_of(main, exif, gps), largest_first(previews))


def _below_uuid(file: IO[bytes], box: Optional[Box], uuid: bytes, skipped: int = 0) -> dict[bytes, Box]:
    if box is None or read_at(file, box.start, 16) != uuid:
        return {}
    return boxes_in(file, box, 16 + skipped)


def _jpeg_of(file: IO[bytes], box: Optional[Box]) -> list[Piece]:
    """The JPEG in a box, behind a few numbers."""
    if box is None:
        return []
    piece = Piece(box.start + 16, box.length - 16)
    return [piece] if is_jpeg(file, piece) else []


# --- JPEG XL, JPEG 2000


def read_jxl(file: IO[bytes]) -> Header:
    """A container (ISO/IEC 18181-2), or the codestream alone."""
    if read_at(file, 0, 2) == b"\xff\x0a":
        return Header(*size_of_jxl(read_at(file, 2, 14)))
    found = boxes_in(file, Box(b"", 0, length_of(file)))
    exif = content_of(file, found.get(b"Exif"))
    part = found.get(b"jxlc") or found.get(b"jxlp")
    width, height = None, None
    if part is not None:
        start = part.start + 4 * (part.kind == b"jxlp")
        width, height = size_of_jxl(read_at(file, start, 16)[2:])
    return Header(width, height, facts_in(exif[4 + int.from_bytes(exif[:4], "big") :]))


def read_jp2(file: IO[bytes]) -> Header:
    head = boxes_in(file, Box(b"", 0, length_of(file))).get(b"jp2h")
    image = None if head is None else boxes_in(file, head).get(b"ihdr")
    if image is None:
        raise MalformedError("no size")
    height, width = struct.unpack_from(">II", content_of(file, image))
    return Header(width, height)


def read_j2c(file: IO[bytes]) -> Header:
    return Header(*size_of_j2c(read_at(file, 0, 24)))


# --- videos


def read_video(file: IO[bytes]) -> Header:
    """MP4 and QuickTime: the size of the largest track, and what telephones write of when and where."""
    movie = next((box for box in boxes(file, 0, length_of(file)) if box.kind == b"moov"), None)
    if movie is None:
        return Header()
    tracks = [_track(file, box) for box in boxes(file, movie.start, movie.end) if box.kind == b"trak"]
    width, height, turn = max(tracks, default=(0, 0, None), key=lambda track: track[0] * track[1])
    below = boxes_in(file, movie)
    told = _told(file, below.get(b"meta"))
    user = boxes_in(file, below[b"udta"]) if b"udta" in below else {}
    place = told.get("place") or content_of(file, user.get(b"\xa9xyz"))[4:].decode("latin-1")
    latitude, longitude = _position(place)
    facts = sound(
        taken_at=_moment(told.get("taken", "")) or _created(content_of(file, below.get(b"mvhd"))),
        camera=camera_of(told.get("make"), told.get("model")),
        orientation=turn,
        latitude=latitude,
        longitude=longitude,
    )
    return Header(width or None, height or None, facts)


def _track(file: IO[bytes], track: Box) -> tuple[int, int, Optional[int]]:
    """Width and height of a track, and Exif's orientation where it is to be turned."""
    head = content_of(file, boxes_in(file, track).get(b"tkhd"))
    matrix = 40 if head[:1] == b"\0" else 52
    if len(head) < matrix + 44:
        return 0, 0, None
    first, second = struct.unpack_from(">ii", head, matrix)
    width, height = struct.unpack_from(">II", head, matrix + 36)
    return width >> 16, height >> 16, _TURNS.get((first >> 16, second >> 16))


def _created(head: bytes) -> Optional[str]:
    """The moment of `mvhd`, which many cameras leave at zero."""
    if len(head) < 12:
        return None
    (seconds,) = struct.unpack_from(">I" if head[:1] == b"\0" else ">Q", head, 4)
    if not 0 < seconds < 2**33:
        return None
    return (_BEGINNING + timedelta(seconds=seconds)).isoformat()


def _told(file: IO[bytes], meta: Optional[Box]) -> dict[str, str]:
    """What Apple's keys say (QuickTime File Format, "Metadata")."""
    if meta is None:
        return {}
    below = boxes_in(file, meta, 0 if read_at(file, meta.start + 4, 4) == b"hdlr" else 4)
    if not {b"keys", b"ilst"} <= set(below):
        return {}
    names = [content_of(file, box) for box in boxes(file, below[b"keys"].start + 8, below[b"keys"].end)]
    told: dict[str, str] = {}
    for item in boxes(file, below[b"ilst"].start, below[b"ilst"].end):
        number = int.from_bytes(item.kind, "big")
        name = _KEYS.get(names[number - 1]) if 0 < number <= len(names) else None
        if name is not None:
            told[name] = content_of(file, boxes_in(file, item).get(b"data"))[8:].decode("utf-8", "replace")
    return told


def _moment(text: str) -> Optional[str]:
    """`2019-07-14T18:03:22+0200`."""
    try:
        told = _OFFSET.sub(r"\1:\2", text.strip().replace("Z", "+00:00"))
        return datetime.fromisoformat(told).replace(microsecond=0).isoformat()
    except ValueError:
        return None


def _position(text: str) -> tuple[Optional[int], Optional[int]]:
    found = _PLACE.match(text.strip())
    if found is None:
        return None, None
    latitude, longitude = (round(float(part) * DEGREE) for part in found.groups())
    return (latitude, longitude) if abs(latitude) <= 90 * DEGREE and abs(longitude) <= 180 * DEGREE else (None, None)
