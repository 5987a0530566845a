"""Exif (Exif 2.32, CIPA DC-008), and the directories of TIFF 6.0 that it and most raw files are made of.

Pillow's reader of directories reads every value, whatever its length, of as many entries as there are said to be; this
one the tags that are wanted, each of a bounded length.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import struct
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import IO, Any, Optional

import msgspec

from common.facts import DEGREE, MAX_CAMERA, Facts, fault_of
from viewer.reading import Header, MalformedError, Piece, is_jpeg, largest_first, read_at
from viewer.signatures import ARW, DNG, NEF, PEF, SRW

_PREFIX = b"Exif\0\0"
_WIDTH, _LENGTH, _COMPRESSION, _PHOTOMETRIC = 0x100, 0x101, 0x103, 0x106
_MAKE, _MODEL, _ORIENTATION = 0x10F, 0x110, 0x112
_STRIP_OFFSETS, _STRIP_LENGTHS, _JPEG_OFFSET, _JPEG_LENGTH = 0x111, 0x117, 0x201, 0x202
_SUB_DIRECTORIES, _EXIF, _GPS = 0x14A, 0x8769, 0x8825
_TAKEN, _OFFSET_TAKEN, _DIGITIZED, _OFFSET_DIGITIZED = 0x9003, 0x9011, 0x9004, 0x9012
_EXIF_WIDTH, _EXIF_HEIGHT = 0xA002, 0xA003
_DNG_VERSION, _CR2_SLICES = 0xC612, 0xC640
_RW2_TOP, _RW2_LEFT, _RW2_BOTTOM, _RW2_RIGHT, _RW2_JPEG = 4, 5, 6, 7, 0x2E
_SENSOR = (32803, 34892)  # photometric interpretations of DNG: colour filter array, linear raw
_OF_MAKER_ONLY = (32767, 34713, 65535)  # compressions of Sony, Nikon, Pentax
_JPEG = (6, 7)
_MAX_CHAIN, _MAX_SUB_DIRECTORIES = 4, 8
_MAKERS = (("NIKON", NEF), ("SONY", ARW), ("PENTAX", PEF), ("RICOH", PEF), ("SAMSUNG", SRW))
_TAKEN_AT = re.compile(r"([0-9]{4}):([0-9]{2}):([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")
_OFFSET = re.compile(r"[+-]\d\d:\d\d")
_WHOLE_DEGREES = (1, 60, 3600)

_WANTED = frozenset(
    (
        *(_WIDTH, _LENGTH, _COMPRESSION, _PHOTOMETRIC, _MAKE, _MODEL, _ORIENTATION, _SUB_DIRECTORIES, _EXIF, _GPS),
        *(_STRIP_OFFSETS, _STRIP_LENGTHS, _JPEG_OFFSET, _JPEG_LENGTH, _DNG_VERSION, _CR2_SLICES),
        *(_TAKEN, _OFFSET_TAKEN, _DIGITIZED, _OFFSET_DIGITIZED, _EXIF_WIDTH, _EXIF_HEIGHT),
        *(_RW2_TOP, _RW2_LEFT, _RW2_BOTTOM, _RW2_RIGHT, 1, 2, 3, 4),  # those of a place too
    )
)
_TEXT = 2
_KINDS = {  # of a value: how it is laid out, and its bytes
    **{1: ("B", 1), _TEXT: ("s", 1), 3: ("H", 2), 4: ("I", 4), 5: ("II", 8), 7: ("s", 1), 9: ("i", 4), 10: ("ii", 8)},
    13: ("I", 4),
}
_MAX_ENTRIES = 1000
_MAX_VALUE = 4096  # bytes


class Directory(dict[int, Any]):
    """Tag → value: a number, a text, bytes, or a tuple of numbers; and where the next directory is, 0 for none."""

    next = 0


class Tiff:
    """The directories of a TIFF, or of what is built like one under another signature."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        head = read_at(file, 0, 8)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or head[2:4] in (b"+\0", b"\0+"):  # of offsets of 64 bits no camera makes any
            raise MalformedError("no TIFF")
        self._order = order
        (self._first,) = self._unpack("I", head[4:])
        self.main = self.directory(self._first)

    def directory(self, offset: object) -> Directory:
        """The directory there; an empty one where there is none, or one that cannot be read or has too many entries."""
        directory = Directory()
        if not isinstance(offset, int) or offset <= 0:
            return directory
        with contextlib.suppress(MalformedError):
            for tag, kind, count, value in self._entries(offset):
                if tag in _WANTED and kind in _KINDS:
                    with contextlib.suppress(MalformedError, struct.error):
                        directory.setdefault(tag, self._value(kind, count, value))
            (directory.next,) = self._unpack("I", read_at(self.file, offset + 2 + 12 * self._count(offset), 4))
        return directory

    def place_of(self, wanted: int) -> Optional[Piece]:
        """Where the value of a tag of the main directory is, where it is not in the directory itself."""
        for tag, _, count, value in self._entries(self._first):
            if tag == wanted and count > 4:
                return Piece(self._unpack("I", value)[0], count)
        return None

    def _count(self, offset: int) -> int:
        (count,) = self._unpack("H", read_at(self.file, offset, 2))
        if count > _MAX_ENTRIES:
            raise MalformedError(f"a directory of {count} entries")
        return int(count)

    def _entries(self, offset: int) -> Iterator[tuple[int, int, int, bytes]]:
        entries = read_at(self.file, offset + 2, 12 * self._count(offset))
        return struct.iter_unpack(f"{self._order}HHI4s", entries)

    def _value(self, kind: int, count: int, value: bytes) -> object:
        layout, size = _KINDS[kind]
        length = count * size
        if length > _MAX_VALUE:
            raise MalformedError(f"a value of {length} bytes")
        if length > len(value):
            value = read_at(self.file, self._unpack("I", value)[0], length)
        if kind == _TEXT:
            return value[:length].decode("latin-1")
        if layout == "s":
            return value[:length]
        numbers = self._unpack(layout * count, value[:length])
        if size == 8:
            numbers = tuple(_ratio(*pair) for pair in zip(numbers[::2], numbers[1::2]))
        return numbers[0] if len(numbers) == 1 else numbers

    def _unpack(self, layout: str, content: bytes) -> tuple[Any, ...]:
        return struct.unpack(self._order + layout, content)

    def images(self) -> Iterator[Directory]:
        """The first directories of images, and those below each."""
        here = self.main
        for _ in range(_MAX_CHAIN):
            yield here
            below = here.get(_SUB_DIRECTORIES, 0)
            for offset in (below if isinstance(below, tuple) else (below,))[:_MAX_SUB_DIRECTORIES]:
                yield self.directory(offset)
            if not here.next:
                return
            here = self.directory(here.next)

    def facts(self) -> Facts:
        return facts_of(self.main, self.directory(self.main.get(_EXIF)), self.directory(self.main.get(_GPS)))


def facts_in(exif: Optional[bytes]) -> Facts:
    """The facts of an Exif block, as it stands in an image; of a broken one those that can be read."""
    if not exif:
        return Facts()
    return Tiff(io.BytesIO(exif.removeprefix(_PREFIX))).facts()


def facts_of(main: Directory, exif: Directory, gps: Directory) -> Facts:
    """The facts of the directories of a photograph."""
    latitude, longitude = _position(gps)
    orientation = main.get(_ORIENTATION)
    return sound(
        taken_at=_moment(exif.get(_TAKEN), exif.get(_OFFSET_TAKEN))
        or _moment(exif.get(_DIGITIZED), exif.get(_OFFSET_DIGITIZED)),
        camera=camera_of(main.get(_MAKE), main.get(_MODEL)),
        orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else None,
        latitude=latitude,
        longitude=longitude,
    )


def sound(**told: Any) -> Facts:
    """Facts of these fields; none of them where one cannot be, or two contradict each other."""
    try:
        facts = msgspec.convert(told, Facts)
    except msgspec.ValidationError:
        return Facts()
    return Facts() if fault_of(facts) is not None else facts


def camera_of(make: object, model: object) -> Optional[str]:
    """Make and model; the make is not said twice."""
    made_by, called = _text(make), _text(model)
    if called.casefold().startswith(made_by.partition(" ")[0].casefold()):
        made_by = ""
    return f"{made_by} {called}".strip()[:MAX_CAMERA].strip() or None


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan


def _text(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return " ".join("".join(c if c.isprintable() else " " for c in text.partition("\0")[0]).split())


def _moment(value: object, offset: object) -> Optional[str]:
    """`2019:07:14 18:03:22`, and `+02:00` where it is told."""
    taken, told = _TAKEN_AT.fullmatch(_text(value)), _text(offset)
    return None if taken is None else moment_of(taken.groups(), told if _OFFSET.fullmatch(told) else "")


def moment_of(parts: Sequence[str], offset: str) -> Optional[str]:
    """Year, month, day, hour, minute, second as facts have them; `offset` is empty or `+02:00`.

    Not by `strptime`, whose first call imports more, as this process cannot any more.
    """
    try:
        return datetime.fromisoformat(f"{'-'.join(parts[:3])}T{':'.join(parts[3:])}{offset}").isoformat()
    except ValueError:
        return None


def _position(gps: Directory) -> tuple[Optional[int], Optional[int]]:
    latitude, longitude = _degrees(gps.get(2), gps.get(1), "S", 90), _degrees(gps.get(4), gps.get(3), "W", 180)
    return (latitude, longitude) if latitude is not None and longitude is not None else (None, None)


def _degrees(value: object, reference: object, negative: str, most: int) -> Optional[int]:
    """Millionths of a degree, of degrees, minutes and seconds."""
    if not isinstance(value, tuple) or len(value) != len(_WHOLE_DEGREES):
        return None
    try:
        degrees = sum(float(part) / unit for part, unit in zip(value, _WHOLE_DEGREES))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not math.isfinite(degrees) or not 0 <= degrees <= most:
        return None
    return round(-degrees * DEGREE if _text(reference) == negative else degrees * DEGREE)


# --- raw files that are TIFFs


def read_tiff(file: IO[bytes]) -> Optional[Header]:
    """A raw file's header; None of any other TIFF, which Pillow reads."""
    tiff = Tiff(file)
    images = list(tiff.images())
    sensors = [image for image in images if _is_sensor(image)]
    media_type = _media_type(tiff.main)
    if not (sensors or _DNG_VERSION in tiff.main) or media_type is None:
        return None
    width, height = max((_size(image) for image in sensors or images), key=lambda size: size[0] * size[1])
    return Header(width or None, height or None, tiff.facts(), _previews(tiff, images), media_type)


def read_camera_tiff(file: IO[bytes]) -> Header:
    """A raw file whose first bytes tell its maker: CR2, ORF."""
    tiff = Tiff(file)
    images = list(tiff.images())
    exif = tiff.directory(tiff.main.get(_EXIF))
    width, height = _size(exif, _EXIF_WIDTH, _EXIF_HEIGHT)
    if not (width and height):
        width, height = max((_size(image) for image in images), key=lambda size: size[0] * size[1])
    return Header(width or None, height or None, tiff.facts(), _previews(tiff, images))


def read_rw2(file: IO[bytes]) -> Header:
    """A raw file of Panasonic's, whose main directory has tags of its own."""
    tiff = Tiff(file)
    top, left, bottom, right = (_whole(tiff.main.get(tag)) for tag in (_RW2_TOP, _RW2_LEFT, _RW2_BOTTOM, _RW2_RIGHT))
    jpeg = tiff.place_of(_RW2_JPEG)
    previews = [jpeg] if jpeg is not None and is_jpeg(file, jpeg) else []
    return Header(max(right - left, 0) or None, max(bottom - top, 0) or None, tiff.facts(), previews)


def _is_sensor(image: Directory) -> bool:
    return image.get(_PHOTOMETRIC) in _SENSOR or image.get(_COMPRESSION) in _OF_MAKER_ONLY


def _media_type(main: Directory) -> Optional[str]:
    if _DNG_VERSION in main:
        return DNG
    made_by = _text(main.get(_MAKE)).upper()
    return next((media_type for maker, media_type in _MAKERS if made_by.startswith(maker)), None)


def _size(image: Directory, width: int = _WIDTH, height: int = _LENGTH) -> tuple[int, int]:
    return _whole(image.get(width)), _whole(image.get(height))


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 2**31 else 0


def _previews(tiff: Tiff, images: list[Directory]) -> list[Piece]:
    """The JPEGs that a camera puts beside what its sensor gave, which is a JPEG of another kind in a CR2."""
    found = set()
    for image in images:
        places = [(image.get(_JPEG_OFFSET), image.get(_JPEG_LENGTH))]
        if image.get(_COMPRESSION) in _JPEG and not _is_sensor(image) and _CR2_SLICES not in image:
            places.append((_only(image.get(_STRIP_OFFSETS)), _only(image.get(_STRIP_LENGTHS))))
        found |= {Piece(_whole(offset), _whole(length)) for offset, length in places if _whole(offset)}
    return largest_first([piece for piece in found if is_jpeg(tiff.file, piece)])


def _only(values: object) -> object:
    return values[0] if isinstance(values, tuple) and len(values) == 1 else values
