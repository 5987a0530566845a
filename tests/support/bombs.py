"""Images that explode when they are decoded, made here: small files whose pixels, or other contents, fill gigabytes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Callable

from PIL import Image

EDGE = 50_000  # pixels: 7.5 GB as RGB


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def zeros(mebibytes: int) -> bytes:
    """A zlib stream of so many MiB of zeros, as long as a thousandth of that."""
    packer = zlib.compressobj(9)
    first = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (mebibytes - 1) + packer.flush()


def png(width: int, height: int, *chunks: bytes, mebibytes: int = 7200) -> bytes:
    """A PNG with so many pixels, and the data for them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b"".join(chunks) + chunk(b"IDAT", zeros(mebibytes)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def png_with_a_text() -> bytes:
    """A small picture whose caption has a gibibyte."""
    text = chunk(b"zTXt", b"Comment\0\0" + zeros(1024))
    return png(64, 64, text, mebibytes=1)


def png_with_a_profile() -> bytes:
    """A small picture whose colour profile has a gibibyte."""
    profile = chunk(b"iCCP", b"profile\0\0" + zeros(1024))
    return png(64, 64, profile, mebibytes=1)


def icon_with_a_png() -> bytes:
    """An icon that says 64 × 64 and holds a PNG of 50,000 × 50,000."""
    inner = png(EDGE, EDGE, mebibytes=200)
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 64, 64, 0, 0, 1, 32, len(inner), 22) + inner


def gif() -> bytes:
    """A GIF of 65,535 × 65,535 with one frame as large."""
    frame = struct.pack("<BHHHHB", 0x2C, 0, 0, 65535, 65535, 0) + b"\x08" + b"\xff" + bytes(255) + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + frame + b";"


def gif_with_a_larger_frame() -> bytes:
    """A GIF that says 16 × 16, with a frame of 65,535 × 65,535."""
    frame = struct.pack("<BHHHHB", 0x2C, 0, 0, 65535, 65535, 0) + b"\x08" + b"\xff" + bytes(255) + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + bytes(6) + frame + b";"


def tiff(*, one_strip: bool) -> bytes:
    """A TIFF of 50,000 × 50,000, deflated, in one strip or in one for every row."""
    data = zeros(256)
    rows = EDGE if one_strip else 1
    entries = [
        (256, 4, EDGE),
        (257, 4, EDGE),
        (258, 3, 8),
        (259, 3, 8),  # deflate
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, rows),
        (279, 4, len(data)),
    ]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


def webp() -> bytes:
    """A WebP of 16,383 × 16,383, the largest there is, of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (2048, 2048)).save(out, "WEBP", lossless=True)
    content = bytearray(out.getvalue())
    # The lossless header: a signature byte, then 14 bits of width - 1 and 14 bits of height - 1.
    at = content.index(b"VP8L") + 9
    bits = int.from_bytes(content[at : at + 4], "little") & ~0xFFFFFFF
    content[at : at + 4] = (bits | 16382 | 16382 << 14).to_bytes(4, "little")
    return bytes(content)


def progressive_jpeg() -> bytes:
    """A progressive JPEG of 64 megapixels, which libjpeg keeps whole while it decodes."""
    out = io.BytesIO()
    Image.new("RGB", (8000, 8000)).save(out, "JPEG", quality=30, progressive=True)
    return out.getvalue()


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {  # what makes it, and its media type as far as it can be told
    "PNG": (lambda: png(EDGE, EDGE), "image/png"),
    "PNG with a text": (png_with_a_text, "image/png"),
    "PNG with a profile": (png_with_a_profile, "image/png"),
    "icon with a PNG": (icon_with_a_png, "application/octet-stream"),  # nothing but decoding tells an icon
    "GIF": (gif, "image/gif"),
    "GIF with a larger frame": (gif_with_a_larger_frame, "image/gif"),
    "TIFF in one strip": (lambda: tiff(one_strip=True), "image/tiff"),
    "TIFF in many strips": (lambda: tiff(one_strip=False), "image/tiff"),
    "WebP": (webp, "image/webp"),
    "progressive JPEG": (progressive_jpeg, "image/jpeg"),
}
