"""After any schedule of losses within n - k, and enough time, every image is whole again: 500 schedules of chance.

Each is drawn from its seed. To run one again: TESSERA_SIMULATE=17 python -m pytest tests/unit/simulation
"""

from __future__ import annotations

import os

import pytest

from tests.unit.simulation.schedule import Schedule

SEEDS = 500
CHUNK = 5
ONE = os.environ.get("TESSERA_SIMULATE")
FIRST, *OTHERS = [range(int(ONE), int(ONE) + 1)] if ONE else [range(s, s + CHUNK) for s in range(0, SEEDS, CHUNK)]
CHUNKS = [FIRST, *(pytest.param(seeds, marks=pytest.mark.one_python) for seeds in OTHERS)]


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_whatever_is_lost_within_bounds_each_image_is_whole_again_unless_deleted(seeds: range) -> None:
    for seed in seeds:
        Schedule(seed).run()
