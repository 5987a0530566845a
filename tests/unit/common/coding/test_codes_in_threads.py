"""One code serves several threads at a time, as a consumer's batches use it beside the event loop."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.erasure import ErasureCode

K, N, LENGTH = 4, 6, 256 << 10


def test_what_several_threads_rebuild_at_once_is_what_was_there() -> None:
    code = ErasureCode(K, N)
    blocks = list(np.random.default_rng(1).integers(0, 256, (N, LENGTH), np.uint8))
    code.encode(blocks[:K], blocks[K:])
    losses = list(itertools.combinations(range(N), N - K)) * 8

    def rebuild(lost: tuple[int, ...]) -> bool:
        missing = {index: np.empty(LENGTH, np.uint8) for index in lost}
        code.rebuild({index: block for index, block in enumerate(blocks) if index not in lost}, missing)
        return all(np.array_equal(missing[index], blocks[index]) for index in lost)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(rebuild, losses))
