"""Every proof in turn: in two lanes, since stopped processes and lossy networks leave the processor idle."""

from __future__ import annotations

import sys

from tests.soak import bit_flips, disk_faults, kill_points, lossy_network, parsers, races, stopped_and_cut
from tests.soak.proof import main

WAITING = [*stopped_and_cut.PARTS, *lossy_network.PARTS]
WORKING = [*kill_points.PARTS, *disk_faults.PARTS, *bit_flips.PARTS, *races.PARTS, *parsers.PARTS]

if __name__ == "__main__":
    sys.exit(main([WAITING, WORKING], "Every proof of docs/reliability.md."))
