"""What a living snapshot names always restores, whatever two machines do at once and wherever they are killed.

Each schedule is drawn from its seed. To run one again: TESSERA_SIMULATE=17 python -m pytest
tests/unit/snapshots/test_schedules.py; many: TESSERA_SIMULATE=0-499.
"""

from __future__ import annotations

from tests.support.seeds import seeds_in_chunks
from tests.unit.snapshots.schedule import Schedule


@seeds_in_chunks(16, 8)
def test_what_a_living_snapshot_names_always_restores(seeds: range) -> None:
    for seed in seeds:
        Schedule(seed).run()
