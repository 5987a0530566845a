"""What a living snapshot names always restores, whatever two machines do at once and wherever they are killed.

Each schedule is drawn from its seed. To run one again: TESSERA_SIMULATE=17 python -m pytest tests/unit/snapshots
"""

from __future__ import annotations

import os

import pytest

from tests.unit.snapshots.schedule import Schedule

SEEDS = 40
CHUNK = 10
ONE = os.environ.get("TESSERA_SIMULATE")
FIRST, *OTHERS = [range(int(ONE), int(ONE) + 1)] if ONE else [range(s, s + CHUNK) for s in range(0, SEEDS, CHUNK)]
CHUNKS = [FIRST, *(pytest.param(seeds, marks=pytest.mark.one_python) for seeds in OTHERS)]


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_what_a_living_snapshot_names_always_restores(seeds: range) -> None:
    for seed in seeds:
        Schedule(seed).run()
