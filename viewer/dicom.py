"""DICOM (PS3.5, PS3.10): the elements before the pixels, one after the other, without those in sequences."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import IO, Optional

from viewer.exif import camera_of, moment_of, sound
from viewer.reading import MAX_STEPS, Header, read_at

_META, _IMPLICIT, _BIG_ENDIAN = 0x0002, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_SYNTAX = (0x0002, 0x0010)
_WIDTH, _HEIGHT = (0x0028, 0x0011), (0x0028, 0x0010)
_DATE, _TIME, _BOTH, _OFFSET = (0x0008, 0x0022), (0x0008, 0x0032), (0x0008, 0x002A), (0x0008, 0x0201)
_MADE_BY, _MODEL = (0x0008, 0x0070), (0x0008, 0x1090)
_WANTED = (_SYNTAX, _WIDTH, _HEIGHT, _DATE, _TIME, _BOTH, _OFFSET, _MADE_BY, _MODEL)
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_WITHOUT_END = 0xFFFFFFFF
_MAX_VALUE = 256  # bytes
_MOMENT = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})")

Tag = tuple[int, int]


def read_dicom(file: IO[bytes]) -> Header:
    told: dict[Tag, bytes] = {}
    orders: dict[Tag, str] = {}
    for tag, value, order in _elements(file):
        told.setdefault(tag, value)
        orders.setdefault(tag, order)
    width, height = (_whole(told.get(tag, b""), orders.get(tag, "<")) for tag in (_WIDTH, _HEIGHT))
    text = {tag: value.decode("latin-1").strip(" \0") for tag, value in told.items()}
    both = text.get(_BOTH) or text.get(_DATE, "") + text.get(_TIME, "")
    facts = sound(taken_at=_moment(both, text.get(_OFFSET, "")), camera=camera_of(text.get(_MADE_BY), text.get(_MODEL)))
    return Header(width, height, facts)


def _elements(file: IO[bytes]) -> Iterator[tuple[Tag, bytes, str]]:
    """The wanted elements, up to the size, each with the byte order that it is written in."""
    position, depth = 132, 0
    order, explicit, syntax = "<", True, ""
    for _ in range(MAX_STEPS):
        tag: Tag = struct.unpack(f"{order}HH", read_at(file, position, 4))
        if tag[0] != _META and syntax:  # the rest is written as the first group says
            if syntax == _DEFLATED:
                return
            order, explicit, syntax = ">" if syntax == _BIG_ENDIAN else "<", syntax != _IMPLICIT, ""
            continue
        length, head = _length(file, position + 4, order, explicit=explicit and tag[0] != 0xFFFE)
        position += 4 + head
        if tag in (_END_OF_ITEM, _END_OF_SEQUENCE):
            depth -= 1
        elif length == _WITHOUT_END:
            depth += 1
            continue
        elif not depth and tag in _WANTED and length <= _MAX_VALUE:
            value = read_at(file, position, length)
            syntax = value.decode("latin-1").strip(" \0") if tag == _SYNTAX else syntax
            yield tag, value, order
        if tag >= _WIDTH and tag[0] != 0xFFFE and not depth:
            return
        position += length


def _length(file: IO[bytes], position: int, order: str, *, explicit: bool) -> tuple[int, int]:
    """An element's length, and the bytes that say it."""
    head = read_at(file, position, 4)
    if not explicit:
        return int(struct.unpack(f"{order}I", head)[0]), 4
    if head[:2] in _LONG:
        return int(struct.unpack(f"{order}I", read_at(file, position + 4, 4))[0]), 8
    return int(struct.unpack(f"{order}H", head[2:])[0]), 4


def _whole(value: bytes, order: str) -> Optional[int]:
    if len(value) != 2:
        return None
    return int(struct.unpack(f"{order}H", value)[0]) or None


def _moment(text: str, offset: str) -> Optional[str]:
    """`20190714180322.123456`, `+0200` behind it or in an element of its own."""
    moment, sign, behind = text.replace("-", "+-").partition("+")
    told = (sign + behind).replace("+-", "-") or offset
    zone = f"{told[:3]}:{told[3:5]}" if len(told) == 5 else ""
    parts = _MOMENT.match(moment)
    return None if parts is None else moment_of(parts.groups(), zone)
