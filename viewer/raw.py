"""Raw files that are no TIFFs: RAF, MRW, CRW, X3F. No maker published its format; several programs read them so.

Sources: ExifTool's tables (FujiFilm, MinoltaRaw, CanonRaw, SigmaRaw), and for CRW "The Canon RAW (CRW) File Format" by
Phil Harvey.
"""

from __future__ import annotations

import io
import struct
from datetime import datetime, timezone
from typing import IO

from common.facts import Facts
from viewer.exif import Tiff, camera_of, facts_in, sound
from viewer.reading import MAX_STEPS, Header, MalformedError, Piece, is_jpeg, length_of, read_at

_RAF_SIZE, _RAF_CROPPED = 0x100, 0x111
_CRW_SUBDIRECTORY, _CRW_IN_ENTRY = (0x2800, 0x3000), 0x4000
_CRW_CAMERA, _CRW_IMAGE, _CRW_TIME, _CRW_PREVIEW = 0x080A, 0x1810, 0x180E, 0x2007
_MAX_DEPTH = 5


def facts_of_jpeg(file: IO[bytes], piece: Piece) -> Facts:
    """The facts of a JPEG's Exif block, which stands at its beginning."""
    position = piece.offset + 2
    for _ in range(8):
        marker, length = struct.unpack(">2sH", read_at(file, position, 4))
        content = read_at(file, position + 4, max(length - 2, 0))
        if marker == b"\xff\xe1" and content.startswith(b"Exif\0\0"):
            return facts_in(content)
        position += 2 + length
    return Facts()


def read_raf(file: IO[bytes]) -> Header:
    """Fujifilm's: a whole JPEG, and the size in a list of its own."""
    jpeg = Piece(*struct.unpack(">II", read_at(file, 84, 8)))
    offset, length = struct.unpack(">II", read_at(file, 92, 8))
    sizes: dict[int, tuple[int, int]] = {}
    reader = io.BytesIO(read_at(file, offset, length))
    for _ in range(int.from_bytes(reader.read(4), "big") % MAX_STEPS):
        tag, size = struct.unpack(">HH", read_at(reader, reader.tell(), 4))
        content = reader.read(size)
        if tag in (_RAF_SIZE, _RAF_CROPPED):
            height, width = struct.unpack_from(">HH", content)
            sizes[tag] = width, height
    previews = [jpeg] if is_jpeg(file, jpeg) else []
    facts = facts_of_jpeg(file, jpeg) if previews else Facts()
    width, height = sizes.get(_RAF_CROPPED) or sizes.get(_RAF_SIZE) or (None, None)
    return Header(width, height, facts, previews)


def read_mrw(file: IO[bytes]) -> Header:
    """Minolta's: blocks, one with the size and one that is a TIFF."""
    end = 8 + int.from_bytes(read_at(file, 4, 4), "big")
    position, facts = 8, Facts()
    width = height = None
    while position < end:
        name, length = struct.unpack(">4sI", read_at(file, position, 8))
        if name == b"\0PRD":
            height, width = struct.unpack(">HH", read_at(file, position + 20, 4))
        elif name == b"\0TTW":
            facts = Tiff(io.BytesIO(read_at(file, position + 8, length))).facts()
        position += 8 + length
    return Header(width, height, facts)


def read_x3f(file: IO[bytes]) -> Header:
    """Sigma's."""
    width, height, turned = struct.unpack("<III", read_at(file, 28, 12))
    turn = {90: 6, 180: 3, 270: 8}.get(turned)
    return Header(width, height, sound(orientation=turn))


# --- CRW


def read_crw(file: IO[bytes]) -> Header:
    """Canon's of before 2004: a heap whose last four bytes say where its directory is, with others below."""
    order = {b"II": "<", b"MM": ">"}.get(read_at(file, 0, 2))
    if order is None:
        raise MalformedError("no CRW")
    (start,) = struct.unpack(f"{order}I", read_at(file, 2, 4))
    found: dict[int, Piece] = {}
    _read_heap(file, order, Piece(start, length_of(file) - start), found, _MAX_DEPTH)
    width = height = turn = camera = taken = None
    if _CRW_IMAGE in found:
        image = read_at(file, found[_CRW_IMAGE].offset, 16)
        width, height, _, turned = struct.unpack(f"{order}IIIi", image)
        turn = {90: 6, 180: 3, 270: 8}.get(turned % 360)
    if _CRW_CAMERA in found:
        names = (
            read_at(file, found[_CRW_CAMERA].offset, min(found[_CRW_CAMERA].length, 64)).decode("latin-1").split("\0")
        )
        camera = camera_of(*names[:2]) if len(names) > 1 else None
    if _CRW_TIME in found:
        (seconds,) = struct.unpack(f"{order}I", read_at(file, found[_CRW_TIME].offset, 4))
        # By the clock where it was taken, of which the offset is not told.
        taken = datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None).isoformat() if seconds else None
    previews = [piece for piece in [found.get(_CRW_PREVIEW)] if piece is not None and is_jpeg(file, piece)]
    return Header(width, height, sound(taken_at=taken, camera=camera, orientation=turn), previews)


def _read_heap(file: IO[bytes], order: str, heap: Piece, found: dict[int, Piece], depth: int) -> None:
    (offset,) = struct.unpack(f"{order}I", read_at(file, heap.offset + heap.length - 4, 4))
    place = heap.offset + offset
    (count,) = struct.unpack(f"{order}H", read_at(file, place, 2))
    for entry in range(min(count, 100)):
        at = place + 2 + 10 * entry
        kind, length, below = struct.unpack(f"{order}HII", read_at(file, at, 10))
        if kind & _CRW_IN_ENTRY:
            found.setdefault(kind & 0x3FFF, Piece(at + 2, 8))
            continue
        piece = Piece(heap.offset + below, length)
        if kind & 0x3800 in _CRW_SUBDIRECTORY and depth:
            if piece.offset + piece.length >= heap.offset + heap.length or piece.length < 6:
                raise MalformedError("a heap is larger than the one around it")
            _read_heap(file, order, piece, found, depth - 1)
        else:
            found.setdefault(kind & 0x3FFF, piece)
