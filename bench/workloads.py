"""What is stored: seeded files, the same in each run.

Photographs are real JPEGs, of noise, with a small one embedded as cameras do; the others are bytes of rng.
"""

from __future__ import annotations

import io
import math
import random
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

MIB = 1 << 20
_NOISE = np.random.default_rng(1).integers(0, 256, (2400, 2400, 3), np.uint8)
_QUALITY = 85


@dataclass(frozen=True)
class Workload:
    """Files in one folder."""

    name: str
    folder: Path
    count: int
    size: int  # bytes of all of them

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())


def make_workloads(place: Path, scale: float) -> list[Workload]:
    """The three of the table of targets; `scale` makes all of them smaller, for a try."""
    count = max(2, round(200 * scale)), max(2, round(1000 * scale))
    drawn = random.Random(1)
    sizes = [drawn.uniform(0.5, 4) * MIB for _ in range(count[0])]
    return [
        _made("one file of 256 MiB", place / "large", [_rng(0, round(256 * scale) * MIB)]),
        _made("200 photos of 0.5 to 4 MiB", place / "photos", [_photo(n, size) for n, size in enumerate(sizes)]),
        _made("1000 files of 30 KiB", place / "small", [_rng(1 + n, 30 << 10) for n in range(count[1])]),
    ]


def make_photo(size: float) -> bytes:
    """A JPEG of about so many bytes."""
    return _photo(0, size)


def _made(name: str, folder: Path, contents: list[bytes]) -> Workload:
    folder.mkdir(parents=True)
    for number, content in enumerate(contents):
        (folder / f"{number:04}.{'jpg' if content.startswith(bytes([0xFF, 0xD8])) else 'bin'}").write_bytes(content)
    return Workload(name, folder, len(contents), sum(len(content) for content in contents))


def _rng(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def _photo(number: int, size: float) -> bytes:
    """Noise of as many pixels as the size takes; no two are alike."""
    sample = _jpeg(500, 500, 0)
    edge = min(_NOISE.shape[0] - 200, round(math.sqrt(size / (len(sample) / 250_000))))
    return _jpeg(edge, edge, number % 200)


def _jpeg(width: int, height: int, offset: int) -> bytes:
    image = Image.fromarray(_NOISE[offset : offset + height, offset : offset + width])
    out, small = io.BytesIO(), io.BytesIO()
    image.resize((160, round(160 * height / width))).save(small, "JPEG", quality=_QUALITY)
    image.save(out, "JPEG", quality=_QUALITY, exif=_with_thumbnail(small.getvalue()))
    return out.getvalue() + offset.to_bytes(2, "big")


def _with_thumbnail(jpeg: bytes) -> bytes:
    """Exif whose second directory names this thumbnail: compression, offset and length."""
    entries = [(0x103, 3, 6 << 16), (0x201, 4, 56), (0x202, 4, len(jpeg))]
    second = struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHII", t, k, 1, v) for t, k, v in entries)
    return b"Exif\0\0" + b"MM\0*" + struct.pack(">IHI", 8, 0, 14) + second + bytes(4) + jpeg
