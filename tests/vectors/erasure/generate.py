"""Writes vectors.json anew, from the code as it is. Run: python tests/vectors/erasure/generate.py

The vectors hold the format: if a run changes the file, stored shares have become unreadable. Add codes here;
never replace what is there. Each vector tells k, n, the parity rows of the matrix over GF(2^w) in hex, and
for some block sizes the SHA-256 of every parity block, or the block itself in hex where it is short. The data
is SHAKE-128 of "tessera erasure vector k n size", cut into k blocks.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[3])  # the checkout's root, in place of this folder

import numpy as np

from common.erasure import ErasureCode
from common.erasure.bitmatrix import parity_elements
from common.erasure.field import Field

CODES = [
    (1, 2),
    (2, 3),
    (2, 4),
    (3, 5),
    (4, 6),
    (4, 8),
    (5, 8),
    (10, 16),
    (1, 17),
    (15, 17),
    (16, 20),
    (48, 64),
]


def parity(k: int, n: int, size: int) -> list[bytes]:
    seed = f"tessera erasure vector {k} {n} {size}".encode()
    data = np.frombuffer(hashlib.shake_128(seed).digest(k * size), np.uint8).reshape(k, size)
    blocks = np.empty((n - k, size), np.uint8)
    ErasureCode(k, n).encode(list(data), list(blocks))
    return [block.tobytes() for block in blocks]


def vector(k: int, n: int) -> dict[str, Any]:
    unit = ErasureCode(k, n).block_unit
    short, sizes = parity(k, n, unit), [3 * unit, 16 * 1024]
    return {
        "k": k,
        "n": n,
        "w": unit // 8,
        "rows": [row.tobytes().hex() for row in parity_elements(Field(unit // 8), k, n - k)],
        "parity": {str(unit): [block.hex() for block in short]},
        "parity_sha256": {
            str(size): [hashlib.sha256(block).hexdigest() for block in parity(k, n, size)] for size in sizes
        },
    }


if __name__ == "__main__":
    text = json.dumps([vector(k, n) for k, n in CODES], indent=1)
    Path(__file__).with_name("vectors.json").write_text(text + "\n", encoding="utf-8")
