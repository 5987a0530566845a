"""Every proof in turn: in two lanes, since stopped processes and lossy networks leave the processor idle."""

from __future__ import annotations

import sys

from tests.soak import (
    aborts,
    bit_flips,
    command_lines,
    disk_faults,
    folders,
    fuzzing,
    hostile_schedules,
    kill_points,
    lane_attacks,
    lossy_network,
    parsers,
    races,
    stolen_vault,
    stopped_and_cut,
    strangers,
)
from tests.soak.proof import main

WAITING = [*stopped_and_cut.PARTS, *lossy_network.PARTS]
WORKING = [*kill_points.PARTS, *disk_faults.PARTS, *bit_flips.PARTS, *races.PARTS, *folders.PARTS]
HOSTILE = [
    *hostile_schedules.PARTS,
    *stolen_vault.PARTS,
    *aborts.PARTS,
    *fuzzing.PARTS,
    *lane_attacks.PARTS,
    *strangers.PARTS,
    *parsers.PARTS,
    *command_lines.PARTS,
]

if __name__ == "__main__":
    sys.exit(main([WAITING, [*WORKING, *HOSTILE]], "Every proof of docs/reliability.md and docs/threat-model.md."))
