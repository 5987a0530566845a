"""What the headers of images tell that Pillow does not open, or does not open as what they are; nothing is decoded.

Bounded: each reader takes so many steps at most, each piece of metadata has a mebibyte at most. What it reads is a
stranger's, so a reader may raise anything; then nothing is known but what the first bytes tell.
"""

from __future__ import annotations

import dataclasses
import io
import re
import struct
from typing import IO, Callable, Optional

from viewer.boxes import read_cr3, read_j2c, read_jp2, read_jxl, read_video
from viewer.dicom import read_dicom
from viewer.exif import facts_in, read_camera_tiff, read_rw2, read_tiff
from viewer.heif import HEIF_TYPES, read_heif
from viewer.raw import read_crw, read_mrw, read_raf, read_x3f
from viewer.reading import MAX_STEPS, Header, MalformedError, read_at
from viewer.signatures import CR2, SIGNATURE_BYTES, media_type_of

_MAX_HEADER = 64 << 10  # bytes of a header that is text
_EXIF_RESOURCE = 1058
_SVG_ROOT = re.compile(rb"<svg\b")
_SVG_EDGE = rb"""\s%s\s*=\s*["']\s*(\d+(?:\.\d+)?)(?:px)?\s*["']"""
_SVG_BOX = re.compile(rb"""\sviewBox\s*=\s*["']\s*[-\d.]+[\s,]+[-\d.]+[\s,]+(\d+(?:\.\d+)?)[\s,]+(\d+(?:\.\d+)?)""")


def described(file: IO[bytes]) -> Optional[Header]:
    """What the header of an image tells, its media type too; None where Pillow is to say it."""
    media_type = None
    try:
        file.seek(0)
        media_type = media_type_of(file.read(SIGNATURE_BYTES))
        reader = _READERS.get(media_type or "")
        if reader is None:
            return None
        header = reader(file)
    except Exception:  # a hostile file may make readers raise anything
        return None
    if header is None:
        return None
    header = dataclasses.replace(header, media_type=header.media_type or media_type)
    if _is_edge(header.width) and _is_edge(header.height):
        return header
    return dataclasses.replace(header, width=None, height=None)


def _is_edge(pixels: Optional[int]) -> bool:
    return isinstance(pixels, int) and 0 < pixels < 2**31


def _at(layout: str, offset: int, *, swapped: bool = False) -> Callable[[IO[bytes]], Header]:
    """A reader of a size that always stands in the same place; `swapped`: height first."""

    def read(file: IO[bytes]) -> Header:
        first, second = struct.unpack(layout, read_at(file, offset, struct.calcsize(layout)))
        return Header(second, first) if swapped else Header(first, second)

    return read


def _read_png(file: IO[bytes]) -> Header:
    """Of one whose texts are too long for Pillow, the size at least."""
    if read_at(file, 12, 4) != b"IHDR":
        raise MalformedError("no size")
    return _at(">II", 16)(file)


def _read_psd(file: IO[bytes]) -> Header:
    """Photoshop's (Adobe Photoshop File Formats Specification); Exif is one of its resources."""
    height, width = struct.unpack(">II", read_at(file, 14, 8))
    position = 30 + int.from_bytes(read_at(file, 26, 4), "big")
    end = position + 4 + int.from_bytes(read_at(file, position, 4), "big")
    position += 4
    for _ in range(MAX_STEPS):
        if position >= end:
            break
        number, name = struct.unpack(">4xHB", read_at(file, position, 7))
        position += 6 + (name + 2) // 2 * 2
        length = int.from_bytes(read_at(file, position, 4), "big")
        if number == _EXIF_RESOURCE:
            return Header(width, height, facts_in(read_at(file, position + 4, length)))
        position += 4 + (length + 1) // 2 * 2
    return Header(width, height)


def _read_exr(file: IO[bytes]) -> Header:
    """OpenEXR: attributes of name, type, length and value, up to an empty name."""
    file.seek(8)
    reader = io.BytesIO(file.read(_MAX_HEADER))
    for _ in range(MAX_STEPS):
        name = _zero_ended(reader)
        if not name:
            break
        _zero_ended(reader)
        value = reader.read(int.from_bytes(reader.read(4), "little"))
        if name == b"dataWindow":
            left, top, right, bottom = struct.unpack("<iiii", value)
            return Header(right - left + 1, bottom - top + 1)
    raise MalformedError("no size")


def _zero_ended(reader: io.BytesIO) -> bytes:
    content = reader.getvalue()
    start = reader.tell()
    end = content.find(b"\0", start, start + 256)
    if end < 0:
        raise MalformedError("a name without end")
    reader.seek(end + 1)
    return content[start:end]


def _read_hdr(file: IO[bytes]) -> Header:
    """Radiance: lines of text up to an empty one, then the size."""
    file.seek(0)
    _, _, rest = file.read(_MAX_HEADER).partition(b"\n\n")
    size = re.match(rb"([+-][XY]) (\d{1,9}) ([+-][XY]) (\d{1,9})\n", rest)
    if size is None:
        raise MalformedError("no size")
    edges = {size[1][1:]: int(size[2]), size[3][1:]: int(size[4])}
    return Header(edges[b"X"], edges[b"Y"])


def _read_svg(file: IO[bytes]) -> Header:
    """What the first bytes say: nothing of it is parsed, no entity, no reference."""
    file.seek(0)
    content = file.read(_MAX_HEADER)
    begin = _SVG_ROOT.search(content)
    if begin is None:
        raise MalformedError("no size")
    root = content[begin.start() :].partition(b">")[0]
    edges = [re.search(_SVG_EDGE % name, root) for name in (b"width", b"height")]
    box = _SVG_BOX.search(root)
    if edges[0] is not None and edges[1] is not None:
        return Header(round(float(edges[0][1])), round(float(edges[1][1])))
    return Header() if box is None else Header(round(float(box[1])), round(float(box[2])))


_READERS: dict[str, Callable[[IO[bytes]], Optional[Header]]] = {
    "image/png": _read_png,
    "image/tiff": read_tiff,
    CR2: read_camera_tiff,
    "image/x-olympus-orf": read_camera_tiff,
    "image/x-panasonic-rw2": read_rw2,
    "image/x-fuji-raf": read_raf,
    "image/x-minolta-mrw": read_mrw,
    "image/x-canon-crw": read_crw,
    "image/x-canon-cr3": read_cr3,
    "image/x-sigma-x3f": read_x3f,
    **dict.fromkeys(HEIF_TYPES, read_heif),
    "image/avif": read_heif,
    "image/jxl": read_jxl,
    "image/jp2": read_jp2,
    "image/j2c": read_j2c,
    "application/dicom": read_dicom,
    "image/vnd.adobe.photoshop": _read_psd,
    "image/x-xcf": _at(">II", 14),
    "image/x-exr": _read_exr,
    "image/vnd.radiance": _read_hdr,
    "image/qoi": _at(">II", 4),
    "image/svg+xml": _read_svg,
    "image/x-tga": _at("<HH", 12),
    **dict.fromkeys(("video/mp4", "video/quicktime", "video/3gpp"), read_video),
}
