"""The seeds of schedules that are drawn by chance, a few a test."""

from __future__ import annotations

import os

import pytest


def seeds_in_chunks(count: int, chunk: int) -> pytest.MarkDecorator:
    """Parametrize `seeds` by ranges of so many of the first seeds, the first range on every Python, the others on one.

    TESSERA_SIMULATE: in place of these that seed alone, or those from one to another: 0-499.
    """
    begin, _, end = os.environ.get("TESSERA_SIMULATE", f"0-{count - 1}").partition("-")
    behind = int(end or begin) + 1
    first, *others = [range(s, min(s + chunk, behind)) for s in range(int(begin), behind, chunk)]
    chunks = [first, *(pytest.param(seeds, marks=pytest.mark.one_python) for seeds in others)]
    return pytest.mark.parametrize("seeds", chunks, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
