"""Files made here that are their headers alone, of the formats that Pillow does not open: what each says is known."""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import Image

from common.facts import Facts
from tests.support.bombs import chunk
from viewer.boxes import _CANON, _CANON_PREVIEW

WIDTH, HEIGHT = 6000, 4000
FACTS = Facts("2019-07-14T18:03:22+02:00", "Canon EOS R5", 6, -33_856_667, 151_215_000)
_GPS: dict[int, Any] = {1: "S", 2: [33, 51, 24], 3: "E", 4: [151, 12, 54]}
_EXIF_TAGS: dict[int, Any] = {0x9003: "2019:07:14 18:03:22", 0x9011: "+02:00", 0xA002: WIDTH, 0xA003: HEIGHT}


def jpeg(width: int = 320, height: int = 240) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def exif() -> bytes:
    """An Exif block with all facts, without its prefix."""
    return tiff({})


def tiff(
    tags: dict[int, Any], *sub: dict[int, Any], exif_too: bool = True, head: bytes = b"II*\0", gap: bytes = b""
) -> bytes:
    """A TIFF of these tags with directories below, an Exif and a GPS directory, and a JPEG at its end."""
    order = "<" if head[:2] == b"II" else ">"
    directories: list[dict[int, Any]] = [*sub, *([_EXIF_TAGS, _GPS] if exif_too else [])]
    # Twice: offsets are as long whatever they are, so the first time tells the places.
    places = [1] * (len(directories) + 1)
    for _ in range(2):
        main = {**tags, 0x10F: tags.get(0x10F, "Canon"), 0x110: tags.get(0x110, "Canon EOS R5"), 0x112: 6}
        if sub:
            main[0x14A] = tuple(places[: len(sub)]) if len(sub) > 1 else places[0]
        if exif_too:
            main[0x8769], main[0x8825] = places[len(sub)], places[len(sub) + 1]
        content = bytearray(head + struct.pack(f"{order}I", 8 + len(gap)) + gap)
        content += _directory(main, len(content), head, places[-1])
        for number, directory in enumerate(directories):
            places[number] = len(content)
            content += _directory(directory, len(content), head, places[-1])
        places[-1] = len(content)
    return bytes(content) + jpeg()


def _directory(tags: dict[int, Any], offset: int, head: bytes, picture: int = 0) -> bytes:
    """`picture`: in place of the value "JPEG"; degrees, minutes and seconds are a tuple of whole numbers in a list."""
    order = "<" if head[:2] == b"II" else ">"
    entries, values = b"", b""
    behind = offset + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, list):
            kind, count, content = 5, len(value), b"".join(struct.pack(f"{order}II", part, 1) for part in value)
        elif isinstance(value, bytes):
            kind, count, content = 7, len(value), value
        elif isinstance(value, str) and value != "JPEG":
            kind, count, content = 2, len(value) + 1, value.encode() + b"\0"
        else:
            numbers = value if isinstance(value, tuple) else (picture if value == "JPEG" else value,)
            kind, count, content = 4, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(content) > 4:
            place = struct.pack(f"{order}I", behind + len(values))
            values += content
        else:
            place = content.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, count) + place
    return struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values


def box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I4s", 8 + len(joined), kind) + joined


def heif(brand: bytes = b"heic", compatible: bytes = b"mif1heic") -> bytes:
    """With a thumbnail's size beside the image's, and the Exif block behind the boxes."""
    block = struct.pack(">I", 6) + b"Exif\0\0" + exif()
    start = box(b"ftyp", brand, bytes(4), compatible)
    properties = box(b"ispe", bytes(4), struct.pack(">II", 320, 240)) + box(
        b"ispe", bytes(4), struct.pack(">II", WIDTH, HEIGHT)
    )
    items = [(1, b"hvc1"), (2, b"Exif")]
    entries = [box(b"infe", b"\2\0\0\0", struct.pack(">HH4s", number, 0, kind), b"\0") for number, kind in items]

    def meta(offset: int) -> bytes:
        places = struct.pack(">BBHHHHII", 0x44, 0, 1, 2, 0, 1, offset, len(block))
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", bytes(4), struct.pack(">H", 1)),
            box(b"iinf", bytes(4), struct.pack(">H", len(entries)), *entries),
            box(b"iloc", bytes(4), places),
            box(b"iprp", box(b"ipco", properties), box(b"ipma", bytes(4), struct.pack(">IHBB", 1, 1, 1, 2))),
        )

    return start + meta(len(start) + len(meta(0)) + 8) + box(b"mdat", block)


def cr3() -> bytes:
    sizes = {0x100: WIDTH, 0x101: HEIGHT}
    cmt = [
        box(b"CMT1", tiff(sizes, exif_too=False)),
        box(b"CMT2", b"II*\0\x08\0\0\0", _directory(_EXIF_TAGS, 8, b"II*\0")),
        box(b"CMT4", b"II*\0\x08\0\0\0", _directory(_GPS, 8, b"II*\0")),
    ]
    preview = box(b"uuid", _CANON_PREVIEW, bytes(8), box(b"PRVW", bytes(16), jpeg()))
    return box(b"ftyp", b"crx \0\0\0\1crx isom") + box(b"moov", box(b"uuid", _CANON, *cmt)) + preview


def raf() -> bytes:
    embedded = jpeg()
    marked = embedded[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(exif())) + b"Exif\0\0" + exif() + embedded[2:]
    sizes = struct.pack(">IHHHH", 1, 0x111, 4, HEIGHT, WIDTH)
    head = b"FUJIFILMCCD-RAW 0201FF383501".ljust(84, b"\0")
    return head + struct.pack(">IIII", 100, len(marked), 100 + len(marked), len(sizes)) + marked + sizes


def mrw() -> bytes:
    prd = b"\0PRD" + struct.pack(">I8sHHHH8x", 24, b"27820001", HEIGHT + 8, WIDTH + 8, HEIGHT, WIDTH)
    ttw = b"\0TTW" + struct.pack(">I", len(exif())) + exif()
    return b"\0MRM" + struct.pack(">I", len(prd + ttw)) + prd + ttw


def crw() -> bytes:
    image = struct.pack("<IIIi12x", WIDTH, HEIGHT, 0, 90)
    names, taken = b"Canon\0Canon EOS D60\0", struct.pack("<III", 1_563_127_402, 0, 0)
    values, entries = b"", b""
    for kind, value in ((0x1810, image), (0x080A, names), (0x180E, taken), (0x2007, jpeg())):
        entries += struct.pack("<HII", kind, len(value), len(values))
        values += value
    inner = values + struct.pack("<H", 4) + entries + struct.pack("<I", len(values))
    outer = inner + struct.pack("<HHII", 1, 0x300A, len(inner), 0) + struct.pack("<I", len(inner))
    return b"II" + struct.pack("<I", 26) + b"HEAPCCDR" + bytes(12) + outer


def psd() -> bytes:
    block = exif()
    resource = b"8BIM" + struct.pack(">HBxI", 1058, 0, len(block)) + block + bytes(len(block) % 2)
    other = b"8BIM" + struct.pack(">HB5sI", 1005, 5, b"other", 3) + b"abc\0"
    resources = other + resource
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, HEIGHT, WIDTH, 8, 3)
    return head + bytes(4) + struct.pack(">I", len(resources)) + resources


def exr() -> bytes:
    attributes = b"compression\0compression\0" + struct.pack("<IB", 1, 0)
    attributes += b"dataWindow\0box2i\0" + struct.pack("<Iiiii", 16, -10, -20, WIDTH - 11, HEIGHT - 21)
    return b"\x76\x2f\x31\x01\2\0\0\0" + attributes + b"\0"


def jxl_size() -> bytes:
    """The beginning of a codestream: not small, 18 bits of height, 3:2."""
    bits = 0 | 1 << 1 | (HEIGHT - 1) << 3 | 4 << 16
    return b"\xff\x0a" + bits.to_bytes(4, "little") + bytes(16)


def jxl() -> bytes:
    start = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    return start + box(b"Exif", bytes(4), exif()) + box(b"jxlc", jxl_size())


def dicom(*, implicit: bool = False) -> bytes:
    def element(group: int, number: int, kind: bytes, value: bytes, *, meta: bool = False) -> bytes:
        value += b" " * (len(value) % 2)
        if implicit and not meta:
            return struct.pack("<HHI", group, number, len(value)) + value
        if kind == b"SQ":
            return struct.pack("<HH2s2xI", group, number, kind, len(value)) + value
        return struct.pack("<HH2sH", group, number, kind, len(value)) + value

    syntax = b"1.2.840.10008.1.2" if implicit else b"1.2.840.10008.1.2.1"
    nested = element(0x28, 0x11, b"US", struct.pack("<H", 1))
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + nested + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    endless = (
        struct.pack("<HHI", 8, 0x1140, 0xFFFFFFFF) if implicit else struct.pack("<HH2s2xI", 8, 0x1140, b"SQ", 2**32 - 1)
    )
    elements = [
        element(2, 0x10, b"UI", syntax, meta=True),
        element(8, 0x22, b"DA", b"20190714"),
        element(8, 0x32, b"TM", b"180322.500"),
        element(8, 0x70, b"LO", b"Canon"),
        element(8, 0x201, b"SH", b"+0200"),
        element(8, 0x1090, b"LO", b"EOS R5"),
        endless + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
        element(0x28, 0x10, b"US", struct.pack("<H", HEIGHT)),
        element(0x28, 0x11, b"US", struct.pack("<H", WIDTH)),
        element(0x7FE0, 0x10, b"US", bytes(4)),
    ]
    return bytes(128) + b"DICM" + b"".join(elements)


def mov() -> bytes:
    """As a telephone makes it: turned by a quarter, and Apple's keys."""
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    track = box(b"trak", box(b"tkhd", bytes(40), matrix, struct.pack(">II", WIDTH << 16, HEIGHT << 16)))
    told = {
        b"com.apple.quicktime.creationdate": b"2019-07-14T18:03:22+0200",
        b"com.apple.quicktime.location.ISO6709": b"-33.856667+151.215000+012.3/",
        b"com.apple.quicktime.make": b"Canon",
        b"com.apple.quicktime.model": b"EOS R5",
    }
    keys = box(b"keys", bytes(4), struct.pack(">I", len(told)), *(box(b"mdta", name) for name in told))
    values = [
        box(struct.pack(">I", number), box(b"data", struct.pack(">II", 1, 0), value))
        for number, value in enumerate(told.values(), 1)
    ]
    meta = box(b"meta", box(b"hdlr", bytes(8), b"mdta", bytes(12)), keys, box(b"ilst", *values))
    movie = box(b"moov", box(b"mvhd", bytes(100)), track, meta)
    return box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"wide") + box(b"mdat", bytes(1000)) + movie


def mp4() -> bytes:
    """As others do: the moment in seconds since 1904, the place beside it."""
    track = box(b"trak", box(b"tkhd", bytes(76), struct.pack(">II", WIDTH << 16, HEIGHT << 16)))
    head = box(b"mvhd", bytes(4), struct.pack(">I", 3_645_965_002), bytes(92))
    place = box(b"udta", box(b"\xa9xyz", struct.pack(">HH", 18, 0x15C7), b"-33.8566+151.2150/"))
    return box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"moov", head, track, place)


def png() -> bytes:
    """With a text of 2 MiB, more than Pillow reads."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * (2 << 20))


def cr2() -> bytes:
    """Its main directory has the JPEG, one below what the sensor gave, which is a JPEG of another kind."""
    sensor = {0x100: WIDTH - 100, 0x101: HEIGHT, 0x103: 6, 0x111: "JPEG", 0x117: len(jpeg()), 0xC640: (1, 2, 3)}
    tags = {0x100: WIDTH, 0x101: HEIGHT, 0x103: 6, 0x111: "JPEG", 0x117: len(jpeg())}
    return tiff(tags, sensor, gap=b"CR\2\0" + bytes(4))


def of_maker(make: str, *, sensor: dict[int, Any], **more: Any) -> bytes:
    """A raw file that is a TIFF: a small picture in the main directory, and what the sensor gave below it."""
    tags = {0x100: 160, 0x101: 120, 0x10F: make, 0x201: "JPEG", 0x202: len(jpeg()), **more.get("main", {})}
    return tiff(tags, {0x100: WIDTH, 0x101: HEIGHT, **sensor})


_CFA = {0x106: 32803}
HEADERS: dict[str, tuple[bytes, str, bool]] = {  # content, media type, and whether it has a JPEG
    "HEIC": (heif(), "image/heic", False),
    "HEIF": (heif(b"mif1", b"mif1"), "image/heif", False),
    "HEIC under a brand of any": (heif(b"mif1", b"mif1heic"), "image/heic", False),
    "HEIC of several": (heif(b"msf1", b"msf1hevc"), "image/heif-sequence", False),
    "AVIF": (heif(b"avif", b"avifmif1"), "image/avif", False),
    "CR2": (cr2(), "image/x-canon-cr2", True),
    "CR3": (cr3(), "image/x-canon-cr3", True),
    "CRW": (crw(), "image/x-canon-crw", True),
    "NEF": (of_maker("NIKON CORPORATION", sensor=_CFA), "image/x-nikon-nef", True),
    "ARW": (of_maker("SONY", sensor={0x103: 32767}), "image/x-sony-arw", True),
    "DNG": (of_maker("Leica", sensor=_CFA, main={0xC612: b"\1\4\0\0"}), "image/x-adobe-dng", True),
    "RAF": (raf(), "image/x-fuji-raf", True),
    "ORF": (tiff({0x100: WIDTH, 0x101: HEIGHT}, head=b"IIRO"), "image/x-olympus-orf", False),
    "RW2": (
        tiff({4: 10, 5: 20, 6: HEIGHT + 10, 7: WIDTH + 20, 0x2E: jpeg()}, head=b"IIU\0"),
        "image/x-panasonic-rw2",
        True,
    ),
    "MRW": (mrw(), "image/x-minolta-mrw", False),
    "X3F": (b"FOVb" + bytes(24) + struct.pack("<III", WIDTH, HEIGHT, 90), "image/x-sigma-x3f", False),
    "PSD": (psd(), "image/vnd.adobe.photoshop", False),
    "XCF": (b"gimp xcf v011\0" + struct.pack(">II", WIDTH, HEIGHT), "image/x-xcf", False),
    "EXR": (exr(), "image/x-exr", False),
    "HDR": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (HEIGHT, WIDTH), "image/vnd.radiance", False),
    "QOI": (b"qoif" + struct.pack(">II", WIDTH, HEIGHT), "image/qoi", False),
    "SVG": (b"<?xml version='1.0'?><svg width='%dpx' height=\"%d\">" % (WIDTH, HEIGHT), "image/svg+xml", False),
    "SVG by its box": (b"<svg viewBox='0 0 %d %d'>" % (WIDTH, HEIGHT), "image/svg+xml", False),
    "DICOM": (dicom(), "application/dicom", False),
    "DICOM, implicit": (dicom(implicit=True), "application/dicom", False),
    "JPEG XL": (jxl(), "image/jxl", False),
    "JPEG XL, bare": (jxl_size(), "image/jxl", False),
    "JPEG 2000": (
        box(b"jP  ", b"\r\n\x87\n") + box(b"jp2h", box(b"ihdr", struct.pack(">II6x", HEIGHT, WIDTH))),
        "image/jp2",
        False,
    ),
    "JPEG 2000, bare": (
        b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">IIII", WIDTH + 5, HEIGHT + 6, 5, 6),
        "image/j2c",
        False,
    ),
    "PNG with a long text": (png(), "image/png", False),
    "MOV": (mov(), "video/quicktime", False),
    "MP4": (mp4(), "video/mp4", False),
}
