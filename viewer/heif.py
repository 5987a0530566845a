"""HEIF (ISO/IEC 23008-12), HEIC and AVIF among them: size, Exif, and the thumbnail as a file that a decoder opens.

All that describes the items of such a file stands in one box, `meta`; the items themselves lie where it says.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple, Optional

from viewer.boxes import Box, Reader, boxes, boxes_in, content_of
from viewer.exif import facts_in
from viewer.reading import MAX_STEPS, Header, MalformedError, Piece, length_of, read_at

HEIF_TYPES = ("image/heic", "image/heic-sequence", "image/heif", "image/heif-sequence")  # AVIF has one of its own
_BRANDS = ((b"avif", "image/avif"), (b"avis", "image/avif"), (b"heic", "image/heic"), (b"heix", "image/heic"))
_HEVC = b"hvc1"  # the kind of an item, as HEIC has it
_ESSENTIAL = (b"hvcC", b"irot", b"imir", b"clap")  # properties without which a decoder would show something else
_MAX_PROPERTIES = 32  # of one item


class _Property(NamedTuple):
    kind: bytes
    whole: bytes  # the box, with its head


def read_heif(file: IO[bytes]) -> Header:
    """The size is the one before the image is turned, as with any other format."""
    top = {box.kind: box for box in boxes(file, 0, length_of(file))}
    brands = content_of(file, top.get(b"ftyp"))
    media_type = next((media_type for brand, media_type in _BRANDS if brand in brands[8:]), None)
    if b"meta" not in top:
        return Header(media_type=media_type)
    items = _Items(file, content_of(file, top[b"meta"]))
    width, height = items.size()
    exif = next((items.content(item) for item, kind in items.kinds() if kind == b"Exif"), None)
    # Four bytes say where in its item the block begins.
    facts = facts_in(None if exif is None else exif[4 + int.from_bytes(exif[:4], "big") :])
    return Header(width or None, height or None, facts, media_type=media_type, thumbnail=items.thumbnail())


class _Items:
    """What `meta` says of the items of a file; MalformedError, by any of these, where it is cut or endless."""

    def __init__(self, file: IO[bytes], meta: bytes) -> None:
        self._file, self._meta = file, io.BytesIO(meta)
        self._below = boxes_in(self._meta, Box(b"meta", 0, len(meta)), skipped=4)
        primary = self._content_of(b"pitm")
        self._primary = int.from_bytes(primary[4:8] if primary[:1] == b"\1" else primary[4:6], "big")
        properties = boxes_in(self._meta, self._below[b"iprp"]) if b"iprp" in self._below else {}
        self._associations = content_of(self._meta, properties.get(b"ipma"))
        self._properties: list[Box] = []
        if b"ipco" in properties:
            self._properties += boxes(self._meta, properties[b"ipco"].start, properties[b"ipco"].end)

    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the primary item, or where none is told the largest; else zeros."""
        sizes: dict[int, tuple[int, int]] = {}
        for number, box in enumerate(self._properties, 1):
            if box.kind == b"ispe":
                width, height = struct.unpack_from(">II", content_of(self._meta, box), 4)
                sizes[number] = width, height
        of_primary = _associated(self._associations, self._primary)
        chosen = [sizes[number] for number in of_primary if number in sizes] or [*sizes.values(), (0, 0)]
        return max(chosen, key=lambda size: size[0] * size[1])

    def kinds(self) -> Iterator[tuple[int, bytes]]:
        """Each item and what it is (`iinf`)."""
        items = self._below.get(b"iinf")
        if items is None:
            return
        counted = 2 if content_of(self._meta, items)[:1] == b"\0" else 4
        for box in boxes(self._meta, items.start + 4 + counted, items.end):
            entry = Reader(content_of(self._meta, box))
            version, _ = entry.number(1), entry.number(3)
            item, _ = entry.number(2 if version < 3 else 4), entry.number(2)
            yield item, entry.take(4)

    def content(self, item: int) -> Optional[bytes]:
        """An item of at most 1 MiB; None where it is not in one piece, or not in this file."""
        place = _place_of(self._content_of(b"iloc"), item)
        if place is None:
            return None
        method, piece = place
        if method == 0:
            return read_at(self._file, piece.offset, piece.length)
        if method == 1 and b"idat" in self._below:
            return read_at(self._meta, self._below[b"idat"].start + piece.offset, piece.length)
        return None

    def thumbnail(self) -> Optional[bytes]:
        """The primary item's thumbnail, with what turns it, as a HEIC that has nothing else; None where there is none.

        A telephone's is 320 pixels across: decoding it costs a hundredth of decoding the photograph.
        """
        try:
            thumbnails = self._thumbnails()
            item = next((item for item, kind in self.kinds() if kind == _HEVC and item in thumbnails), None)
            content = None if item is None else self.content(item)
            if item is None or content is None:
                return None
            return _heic(content, [self._property(number) for number in _associated(self._associations, item)])
        except MalformedError:
            return None  # the image itself may be good

    def _thumbnails(self) -> set[int]:
        """The items of which `iref` says that they are thumbnails of the primary one."""
        references = self._below.get(b"iref")
        if references is None:
            return set()
        width = 2 if read_at(self._meta, references.start, 1) == b"\0" else 4
        found = set()
        for box in boxes(self._meta, references.start + 4, references.end):
            if box.kind == b"thmb":
                reader = Reader(content_of(self._meta, box))
                item, count = reader.number(width), reader.number(2)
                if self._primary in [reader.number(width) for _ in range(min(count, MAX_STEPS))]:
                    found.add(item)
        return found

    def _property(self, number: int) -> _Property:
        if not 0 < number <= len(self._properties):
            raise MalformedError("an item has a property that is not there")
        box = self._properties[number - 1]
        return _Property(box.kind, _box(box.kind, content_of(self._meta, box)))

    def _content_of(self, kind: bytes) -> bytes:
        return content_of(self._meta, self._below.get(kind))


def _associated(associations: bytes, wanted: int) -> list[int]:
    """The numbers of an item's properties (`ipma`)."""
    if len(associations) < 8:
        return []
    reader = Reader(associations)
    version, flags, count = reader.number(1), reader.number(3), reader.number(4)
    for _ in range(min(count, MAX_STEPS)):
        item = reader.number(2 if version < 1 else 4)
        wide = bool(flags & 1)
        numbers = [reader.number(2 if wide else 1) & (0x7FFF if wide else 0x7F) for _ in range(reader.number(1))]
        if item == wanted:
            return numbers
    return []


def _place_of(locations: bytes, wanted: int) -> Optional[tuple[int, Piece]]:
    """Where an item is (`iloc`), where it is in one piece: in what, and there."""
    if not locations:
        return None
    reader = Reader(locations)
    version, _ = reader.number(1), reader.number(3)
    sizes, more = reader.number(1), reader.number(1)
    indexed = more & 15 if version else 0
    for _ in range(min(reader.number(2 if version < 2 else 4), MAX_STEPS)):
        item = reader.number(2 if version < 2 else 4)
        method = reader.number(2) & 15 if version else 0
        _, base = reader.number(2), reader.number(more >> 4)
        pieces = []
        for _ in range(reader.number(2)):
            _, offset, length = reader.number(indexed), reader.number(sizes >> 4), reader.number(sizes & 15)
            pieces.append(Piece(base + offset, length))
        if item == wanted:
            return (method, pieces[0]) if len(pieces) == 1 else None
    return None


def _heic(content: bytes, properties: list[_Property]) -> bytes:
    """A HEIC of one item with these properties."""
    if len(properties) > _MAX_PROPERTIES:
        raise MalformedError(f"{len(properties)} properties")
    numbers = bytes(number | (0x80 if each.kind in _ESSENTIAL else 0) for number, each in enumerate(properties, 1))
    entry = _box(b"infe", b"\2\0\0\0", struct.pack(">HH4s", 1, 0, _HEVC), b"\0")

    def meta(offset: int) -> bytes:
        return _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", bytes(8), b"pict", bytes(13)),
            _box(b"pitm", bytes(4), struct.pack(">H", 1)),
            _box(b"iinf", bytes(4), struct.pack(">H", 1), entry),
            _box(b"iloc", bytes(4), struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, offset, len(content))),
            _box(
                b"iprp",
                _box(b"ipco", *(each.whole for each in properties)),
                _box(b"ipma", bytes(4), struct.pack(">IHB", 1, 1, len(numbers)), numbers),
            ),
        )

    start = _box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return start + meta(len(start) + len(meta(0)) + 8) + _box(b"mdat", content)


def _box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I4s", 8 + len(joined), kind) + joined
