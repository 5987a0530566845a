"""Proof 4: bits flipped at random in every share of n - k stores.

Promised: every image restores all the same; the devices' scrub finds every share that was hit; the steward rebuilds all
of them from the others; and no bad block is ever copied, that is: whatever any device keeps as a committed share is
whole, but for those that were hit and not yet found.

Every share's file of two of six devices is hit, in place, while its worker runs. A bit is drawn again where nothing
that a reader looks at changed (between two records of a file are 45 bytes that name segment, digest and length once
more); how often is in the figures.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tests.soak.ground import Keeper, SoakCluster, is_whole, new_cluster, new_user, share_files, wait_whole
from tests.soak.proof import Figures, Part, Terms, main

HEALED = 120.0  # seconds in which all must be found and repaired
QUICK = {"TESSERA_REPAIR_AFTER": "2s", "TESSERA_SCRUB_EVERY": "3s"}
FOUR_OF_SIX = ("-k", "4", "-n", "6")


def flip(path: Path, drawn: random.Random) -> int:
    """Flip one bit of a share's file so that it shows; how many that do not show were flipped before."""
    size, unseen = path.stat().st_size, 0
    while True:
        with path.open("r+b") as file:
            offset = drawn.randrange(size)
            file.seek(offset)
            byte = file.read(1)[0] ^ (1 << drawn.randrange(8))
            file.seek(offset)
            file.write(bytes([byte]))
        if not is_whole(path):
            return unseen
        unseen += 1


def _files_of(cluster: SoakCluster, *indices: int) -> list[Path]:
    names = {cluster.devices[index - 1] for index in indices}
    return [path for path in share_files(cluster) if path.relative_to(cluster.directory).parts[0] in names]


def restored_in_spite(terms: Terms) -> Figures:
    """Flip bits in every share of two devices after the other, and restore everything each time."""
    pairs = [(1, 2), (3, 4), (5, 6)]
    hit = unseen = restored = 0
    with new_cluster(terms.folder, 6) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        for pair in pairs if terms.scale >= 1 else pairs[:1]:
            keeper.promises.clear()
            for _ in range(terms.goal(3)):
                assert keeper.put(keeper.make_folder(20, 3, k=4), *FOUR_OF_SIX).exit_code == 0
            files = _files_of(cluster, *pair)
            unseen += sum(flip(path, terms.random) for path in files)
            hit += len(files)
            restored += keeper.check_restored()
            for path in share_files(cluster):  # the next pair begins anew
                path.unlink()
            for index in range(1, 7):
                cluster.kill_device(index)
            cluster.revive()
    return {"files hit": hit, "bits that show nowhere": unseen, "restored": restored, "wrong bytes": 0}


def found_and_repaired(terms: Terms) -> Figures:
    """Flip bits in every share of two devices, and wait until scrub and steward have made all whole again."""
    hit = rounds = 0
    slowest = 0.0
    with new_cluster(terms.folder, 6, QUICK) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        while rounds < terms.goal(5) and (terms.time_left or not rounds):
            assert keeper.put(keeper.make_folder(10, 2, k=4), *FOUR_OF_SIX).exit_code == 0
            pair = terms.random.sample(range(1, 7), 2)
            files = _files_of(cluster, *pair)
            for path in files:
                flip(path, terms.random)
            began = time.monotonic()
            wait_whole(cluster, keeper, seconds=HEALED)
            slowest = max(slowest, time.monotonic() - began)
            hit += len(files)
            rounds += 1
            bad = [path for path in share_files(cluster) if not is_whole(path)]
            assert not bad, f"bad shares are kept as good ones: {bad}"
        found = sum(1 for name in cluster.devices for _ in (cluster.directory / name / "quarantine").glob("*"))
        restored = keeper.check_restored()
    return {
        "files hit": hit,
        "left in quarantine": found,
        "found and repaired": hit,
        "bad shares copied": 0,
        "slowest until whole s": round(slowest, 1),
        "restored": restored,
    }


PARTS = [Part("restored in spite", restored_in_spite, 1), Part("found and repaired", found_and_repaired, 2)]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Proof 4: bits flipped."))
