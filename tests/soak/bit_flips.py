"""Proof 4: bits flipped at random in every share of n - k stores.

Promised: every image restores all the same; the devices' scrub finds every share that was hit; the steward rebuilds all
of them from the others; and no bad block is ever copied, that is: whatever any device keeps as a committed share is
whole, but for those that were hit and not yet found.

Every share of two of six devices is hit, in place, in packs and in files, while its worker runs. A bit is drawn again
where nothing that a reader looks at changed (between two blocks of a share are 45 bytes that name segment, digest and
length once more); how often is in the figures.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tests.soak.ground import Keeper, SoakCluster, new_cluster, new_user, wait_whole
from tests.soak.proof import Figures, Part, Terms, main
from tests.support.devices import held_shares
from tests.support.programs import files_below
from tests.support.store_folder import ShareRecord, shares_in
from worker.share_states import State

HEALED = 120.0  # seconds in which all must be found and repaired
QUICK = {"TESSERA_REPAIR_AFTER": "2s", "TESSERA_SCRUB_EVERY": "3s"}
FOUR_OF_SIX = ("-k", "4", "-n", "6")


def flip(record: ShareRecord, drawn: random.Random) -> int:
    """Flip one bit of a share so that it shows; how many that do not show were flipped before."""
    unseen = 0
    while True:
        record.flip(drawn.randrange(record.length), 1 << drawn.randrange(8))
        if not record.is_whole():
            return unseen
        unseen += 1


def _records_of(cluster: SoakCluster, *indices: int) -> list[ShareRecord]:
    names = {cluster.devices[index - 1] for index in indices}
    found = [record for record in held_shares(cluster) if record.device in names]
    return sorted(found, key=lambda record: (record.device, record.serial))


def _empty(store: Path) -> None:
    """Take all shares from a store whose worker does not run."""
    for path in [*files_below(store / "packs"), *files_below(store / "shares"), *store.glob("index.sqlite*")]:
        path.unlink()


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
            records = _records_of(cluster, *pair)
            unseen += sum(flip(record, terms.random) for record in records)
            hit += len(records)
            restored += keeper.check_restored()
            for index in range(1, 7):  # the next pair begins anew
                cluster.kill_device(index)
                _empty(cluster.directory / f"device-{index}")
            cluster.revive()
    return {"shares hit": hit, "bits that show nowhere": unseen, "restored": restored, "wrong bytes": 0}


def found_and_repaired(terms: Terms) -> Figures:
    """Flip bits in every share of two devices, and wait until scrub and steward have made all whole again."""
    hit = rounds = 0
    slowest = 0.0
    with new_cluster(terms.folder, 6, QUICK) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        while rounds < terms.goal(5) and (terms.time_left or not rounds):
            assert keeper.put(keeper.make_folder(10, 2, k=4), *FOUR_OF_SIX).exit_code == 0
            pair = terms.random.sample(range(1, 7), 2)
            records = _records_of(cluster, *pair)
            for record in records:
                flip(record, terms.random)
            began = time.monotonic()
            wait_whole(cluster, keeper, seconds=HEALED)
            slowest = max(slowest, time.monotonic() - began)
            hit += len(records)
            rounds += 1
            bad = [record for record in held_shares(cluster) if not record.is_whole()]
            assert not bad, f"bad shares are kept as good ones: {bad}"
        states = [state for name in cluster.devices for state in shares_in(cluster.directory / name).values()]
        restored = keeper.check_restored()
    return {
        "shares hit": hit,
        "left damaged": states.count(State.DAMAGED),
        "found and repaired": hit,
        "bad shares copied": 0,
        "slowest until whole s": round(slowest, 1),
        "restored": restored,
    }


PARTS = [Part("restored in spite", restored_in_spite, 1), Part("found and repaired", found_and_repaired, 2)]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Proof 4: bits flipped."))
