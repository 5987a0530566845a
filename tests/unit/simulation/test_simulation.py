"""After any schedule of losses within n - k, and enough time, every image is whole again: 500 schedules of chance.

Each is drawn from its seed. To run one again: TESSERA_SIMULATE=17 python -m pytest tests/unit/simulation
"""

from __future__ import annotations

from tests.support.seeds import seeds_in_chunks
from tests.unit.simulation.schedule import Schedule


@seeds_in_chunks(500, 5)
def test_whatever_is_lost_within_bounds_each_image_is_whole_again_unless_deleted(seeds: range) -> None:
    for seed in seeds:
        Schedule(seed).run()
