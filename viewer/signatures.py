"""The media type of an image by its first bytes alone; also of images that cannot be decoded here, and of videos."""

from __future__ import annotations

import re
import struct
from typing import Optional

SIGNATURE_BYTES = 4096  # a drawing in SVG may begin with a licence

CR2, DNG, NEF, ARW = "image/x-canon-cr2", "image/x-adobe-dng", "image/x-nikon-nef", "image/x-sony-arw"
PEF, SRW = "image/x-pentax-pef", "image/x-samsung-srw"
BY_MAKER = (DNG, NEF, ARW, PEF, SRW)  # which begin as any TIFF: what stands in them tells

_SIGNATURES = (  # offset, bytes, media type
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\0\x10\0\0\0CR\x02", CR2),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"II+\0", "image/tiff"),  # with offsets of 64 bits
    (0, b"MM\0+", "image/tiff"),
    (4, b"ftyphei", "image/heic"),
    (4, b"ftyphev", "image/heic-sequence"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypmsf1", "image/heif-sequence"),
    (4, b"ftypavi", "image/avif"),
    (4, b"ftypcrx ", "image/x-canon-cr3"),
    (6, b"HEAPCCDR", "image/x-canon-crw"),
    (0, b"FUJIFILMCCD-RAW", "image/x-fuji-raf"),
    (0, b"IIRO", "image/x-olympus-orf"),
    (0, b"IIRS", "image/x-olympus-orf"),
    (0, b"MMOR", "image/x-olympus-orf"),
    (0, b"IIU\0", "image/x-panasonic-rw2"),
    (0, b"\0MRM", "image/x-minolta-mrw"),
    (0, b"FOVb", "image/x-sigma-x3f"),
    (0, b"\0\0\0\x0cjP  ", "image/jp2"),
    (0, b"\xff\x4f\xff\x51", "image/j2c"),
    (0, b"\0\0\0\x0cJXL ", "image/jxl"),
    (0, b"\xff\x0a", "image/jxl"),
    (0, b"\x76\x2f\x31\x01", "image/x-exr"),
    (128, b"DICM", "application/dicom"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (0, b"gimp xcf ", "image/x-xcf"),
    (0, b"#?RADIANCE", "image/vnd.radiance"),
    (0, b"#?RGBE", "image/vnd.radiance"),
    (0, b"qoif", "image/qoi"),
    (4, b"ftypqt  ", "video/quicktime"),
    (4, b"moov", "video/quicktime"),  # of before 2001
    (4, b"mdat", "video/quicktime"),
    (4, b"ftyp3g", "video/3gpp"),
    *((4, b"ftyp" + brand, "video/mp4") for brand in (b"isom", b"iso", b"mp4", b"avc", b"M4V ", b"MSNV", b"XAVC")),
)
_SVG_STARTS = (b"<svg", b"<?xml", b"<!--", b"<!DOCTYPE svg")
_SVG = re.compile(rb"<svg[\s>]")
_MARK = b"\xef\xbb\xbf"  # of UTF-8
_TGA = struct.Struct("<BBBHHBHHHHBB")

_STARTS = (  # of the formats that can be looked at (`messages.FORMATS`), where these are short
    *(b"BM", b"II", b"MM", b"\0\0\1\0"),
    *(b"P" + bytes([kind]) for kind in b"0123456fy"),
)
MEDIA_TYPES = frozenset({media_type for _, _, media_type in _SIGNATURES} | {*BY_MAKER, "image/svg+xml", "image/x-tga"})


def media_type_of(start: bytes) -> Optional[str]:
    """An image's media type by its first bytes, SIGNATURE_BYTES of them are enough; None where it is none."""
    for offset, signature, media_type in _SIGNATURES:
        if start.startswith(signature, offset):
            return media_type
    if _is_svg(start):
        return "image/svg+xml"
    return "image/x-tga" if _is_tga(start) else None


def may_be_decodable(start: bytes) -> bool:
    """Whether a file that begins so may be one of which more can be told; SIGNATURE_BYTES are enough."""
    return media_type_of(start) is not None or start.startswith(_STARTS) or start[4:8] == b"ftyp"


def _is_svg(start: bytes) -> bool:
    """Not of HTML with a drawing in it."""
    text = start.removeprefix(_MARK).lstrip()
    return text.startswith(_SVG_STARTS) and b"<html" not in text and _SVG.search(text) is not None


def _is_tga(start: bytes) -> bool:
    """A TGA has no signature at its start; its header (Truevision TGA 2.0) leaves little room for anything else."""
    if len(start) < _TGA.size:
        return False
    _, has_map, kind, first, count, depth_of_map, _, _, width, height, depth, flags = _TGA.unpack_from(start)
    if not width or not height or flags & 0xC0:
        return False
    if kind in (1, 9):
        return has_map == 1 and 0 < count <= 256 and depth_of_map in (15, 16, 24, 32) and depth == 8
    if (has_map, first, count, depth_of_map) != (0, 0, 0, 0):
        return False
    return depth in {2: (15, 16, 24, 32), 10: (15, 16, 24, 32), 3: (8, 16), 11: (8, 16)}.get(kind, ())
