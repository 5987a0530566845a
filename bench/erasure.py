"""Measures the erasure code on one core: GB of data bytes per second, the best of several rounds.

For each (k, n) it encodes, and rebuilds the n - k data blocks (all k where there are fewer) whose loss takes
the most time. Blocks stay in the cache where they fit, as they do in a producer, which has just encrypted
them. The last columns are 8 KiB blocks, where the cost per call shows, in microseconds. Run: python
bench/erasure.py
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

import numpy as np
from numpy.typing import NDArray

from common.erasure import ErasureCode

CODES = [(2, 3), (2, 4), (3, 5), (4, 6), (8, 12), (10, 16), (16, 20), (32, 48)]
BLOCK, SMALL_BLOCK = 1024 * 1024, 8 * 1024
MAX_LOSSES = 20  # of more, as many are tried at random
ROUND_SECONDS = 0.02


def seconds(action: Callable[[], object]) -> float:
    """What one call takes, in the best of five rounds; the first, which makes schedules, does not count."""
    action()
    start = time.perf_counter()
    action()
    calls = max(1, int(ROUND_SECONDS / (time.perf_counter() - start)))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            action()
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def losses(k: int, n: int) -> list[tuple[int, ...]]:
    every = itertools.islice(itertools.combinations(range(k), min(k, n - k)), 10_000)
    candidates = list(every)
    return random.Random(k).sample(candidates, min(len(candidates), MAX_LOSSES))


def measure(k: int, n: int, size: int) -> tuple[float, float]:
    """Seconds to encode, and to rebuild after the worst loss."""
    code = ErasureCode(k, n)
    buffer = np.random.default_rng(k).integers(0, 256, n * size, np.uint8)
    blocks: list[NDArray[np.uint8]] = list(buffer.reshape(n, size))

    def rebuild_seconds(lost: tuple[int, ...]) -> float:
        present = {index: block for index, block in enumerate(blocks) if index not in lost}
        missing = {index: blocks[index] for index in lost}
        return seconds(lambda: code.rebuild(present, missing))

    encoding = seconds(lambda: code.encode(blocks[:k], blocks[k:]))
    return encoding, max(rebuild_seconds(lost) for lost in losses(k, n))


def main() -> None:
    print(f"{'k of n':>8} {'create':>9} {'encode':>11} {'worst decode':>13} {'8 KiB: encode':>14} {'decode':>9}")
    for k, n in CODES:
        creating = seconds(partial(ErasureCode, k, n))
        large, small = measure(k, n, BLOCK), measure(k, n, SMALL_BLOCK)
        speeds = [k * BLOCK / duration / 1e9 for duration in large]
        print(
            f"{k:>3} of {n:<2} {creating * 1e3:>6.1f} ms {speeds[0]:>6.1f} GB/s {speeds[1]:>8.1f} GB/s"
            f" {small[0] * 1e6:>11.0f} µs {small[1] * 1e6:>6.0f} µs"
        )


if __name__ == "__main__":
    main()
