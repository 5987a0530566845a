"""The seeds of schedules that are drawn by chance, a few a test."""

from __future__ import annotations

import os

import pytest


def seeds_in_chunks(count: int, chunk: int) -> pytest.MarkDecorator:
    """Parametrize `seeds` by ranges of so many of the first seeds, the first range on every Python, the others on one.

    TESSERA_SIMULATE: that seed alone.
    """
    one = os.environ.get("TESSERA_SIMULATE")
    first, *others = [range(int(one), int(one) + 1)] if one else [range(s, s + chunk) for s in range(0, count, chunk)]
    chunks = [first, *(pytest.param(seeds, marks=pytest.mark.one_python) for seeds in others)]
    return pytest.mark.parametrize("seeds", chunks, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
