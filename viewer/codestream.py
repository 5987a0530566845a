"""Sizes from the beginning of a codestream: JPEG XL (ISO/IEC 18181-1, "SizeHeader"), JPEG 2000 (ISO/IEC 15444-1)."""

from __future__ import annotations

import struct

from viewer.reading import MalformedError

_SIZE_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width to height


def size_of_jxl(content: bytes) -> tuple[int, int]:
    """Width and height, by what follows the two bytes of the signature."""
    bits = int.from_bytes(content, "little")

    def take(count: int) -> int:
        nonlocal bits
        taken = bits & ((1 << count) - 1)
        bits >>= count
        return taken

    is_small = take(1)

    def edge() -> int:
        return 8 * (take(5) + 1) if is_small else 1 + take(_SIZE_BITS[take(2)])

    height = edge()
    ratio = _RATIOS.get(take(3))
    return (edge() if ratio is None else height * ratio[0] // ratio[1]), height


def size_of_j2c(content: bytes) -> tuple[int, int]:
    """Width and height, by the first 24 bytes."""
    marker, right, bottom, left, top = struct.unpack(">2x2s4xIIII", content)
    if marker != b"\xff\x51" or not (right > left and bottom > top):
        raise MalformedError("no size")
    return right - left, bottom - top
