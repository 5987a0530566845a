"""Proof 7: what two do at once to one image: each race ends in one of the states that either order would give.

    two producers       one image stored twice at the same moment: both succeed, and it restores
    put and delete      afterwards it restores or it is gone, on every device alike, and nothing lies in between
    repair and delete   what was deleted stays deleted: no repair brings it back, no device that returns either
    repair and return   a device comes back while its shares are being rebuilt: every image is whole in the end, with
                        one device for each share and no device with two

One race is one image. Where several fit into one run of the programs, they run together.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.soak.ground import (
    Keeper,
    SoakCluster,
    new_cluster,
    new_user,
    wait_whole,
    whole_on_devices,
)
from tests.soak.proof import Figures, Part, Terms, hold_for, main
from tests.support.programs import Ended, User, wait_until

TOGETHER = 5  # images of one run of a program
APART = 0.3  # seconds; about what such a program takes
SETTLED = 60.0  # seconds in which the cluster must come to its final state
OPTIONS = ("-k", "2", "-n", "4")
QUICK = {"TESSERA_REPAIR_AFTER": "2s"}


def _at_once(user: User, drawn: random.Random, *commands: Sequence[str]) -> list[Ended]:
    """Begin these programs within `APART` of each other, in an order drawn."""

    def begin(command: Sequence[str], delay: float) -> Ended:
        hold_for(delay)
        return user.run(*command)

    with ThreadPoolExecutor(len(commands)) as pool:
        begun = [pool.submit(begin, command, drawn.uniform(0, APART)) for command in commands]
        return [each.result() for each in begun]


def _hashes(ended: Ended) -> list[str]:
    return [stored["sha256"] for stored in ended.stored]


def _store(folder: Path) -> list[str]:
    return ["producer", "--json", *OPTIONS, str(folder)]


def _delete(hashes: list[str]) -> list[str]:
    return ["admin", "delete", "--yes", *[word for sha256 in hashes for word in ("--hash", sha256)]]


def two_producers(terms: Terms) -> Figures:
    """Store the same images twice at the same moment."""
    races = 0
    with new_cluster(terms.folder, 6) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        while races < terms.goal(100) and terms.time_left:
            folder = keeper.make_folder(small=TOGETHER - 1, large=1)
            store = _store(folder)
            for ended in _at_once(keeper.user, terms.random, store, store):
                assert ended.exit_code == 0, ended
                assert len(ended.objects) == TOGETHER
                # One that finds the other's encoding while its last shares are on their way says what is there.
                assert not any(stored["degraded"] and not stored["already_stored"] for stored in ended.objects)
                keeper.note(ended)
            races += TOGETHER
        wait_whole(cluster, keeper)
        restored = keeper.check_restored()
    return {"races": races, "restored": restored}


def put_and_delete(terms: Terms) -> Figures:
    """Store images while they are being deleted; afterwards each is there, or gone, and nothing in between."""
    races = there = 0
    with new_cluster(terms.folder, 6) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        while races < terms.goal(100) and terms.time_left:
            store = _store(keeper.make_folder(small=2 * TOGETHER - 1, large=1))
            hashes = _hashes(keeper.user.run(*store))
            assert len(hashes) == 2 * TOGETHER
            put, deleted = _at_once(keeper.user, terms.random, store, _delete(hashes))
            # What was there when the delete looked is deleted; what the put then stored is another encoding.
            assert deleted.exit_code == 0, deleted
            assert put.exit_code in (0, 5), put
            there += _there_or_gone(keeper, hashes)
            races += len(hashes)
    return {"races": races, "there afterwards": there, "gone afterwards": races - there, "in between": 0}


def _there_or_gone(keeper: Keeper, hashes: list[str]) -> int:
    """Restore what the vault lists of these, and miss the others; how many are there."""
    user = keeper.user
    there = {image["sha256"] for image in user.listed()} & set(hashes)
    assert keeper.check_restored(hashes=sorted(there)) == len(there)
    gone = sorted(set(hashes) - there)
    if gone:
        ended = user.restore(*gone, output=user.folder / "gone", options=("--force",))
        assert ended.exit_code == 3, ended
        assert not ended.lines, ended
    return len(there)


def repair_and_delete(terms: Terms) -> Figures:
    """Delete images while their lost shares are being rebuilt; then let the device that was away come back."""
    races = 0
    with new_cluster(terms.folder, 7, QUICK) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        while races < terms.goal(100) and terms.time_left:
            stored = keeper.user.run(*_store(keeper.make_folder(2 * TOGETHER, 4)))
            hashes = _hashes(stored)
            away = terms.random.randint(1, 7)
            cluster.kill_devices(away)
            hold_for(terms.random.uniform(1.0, 3.5))  # around the moment at which the steward begins
            deleted = keeper.user.run(*_delete(hashes))
            assert deleted.exit_code == 0, deleted
            cluster.revive()
            objects = keeper.objects(hashes)
            wait_until(lambda: _held(cluster, objects) == 0, "no share of what was deleted", SETTLED)  # noqa: B023
            hold_for(3.0)  # a repair that is under way would bring it back now
            assert _held(cluster, objects) == 0, "a share of what was deleted came back"
            assert keeper.user.listed() == []
            races += len(hashes)
    return {"races": races, "came back": 0}


def _held(cluster: SoakCluster, objects: list[bytes]) -> int:
    whole = whole_on_devices(cluster)
    return sum(len(whole.get(object_id, ())) for object_id in objects)


def repair_and_return(terms: Terms) -> Figures:
    """Let a device come back while its shares are being rebuilt."""
    rounds = races = 0
    with new_cluster(terms.folder, 7, QUICK) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        while races < terms.goal(100) and terms.time_left:
            stored = keeper.put(keeper.make_folder(2 * TOGETHER, 4), *OPTIONS)
            assert stored.exit_code == 0, stored
            away = terms.random.randint(1, 7)
            cluster.kill_devices(away)
            hold_for(terms.random.uniform(1.0, 4.0))
            cluster.revive()
            races += len(stored.objects)
            rounds += 1
            wait_whole(cluster, keeper)
        restored = keeper.check_restored()
    return {"races": races, "rounds": rounds, "restored": restored, "devices with two shares": 0}


PARTS = [
    Part("two producers", two_producers, 1),
    Part("put and delete", put_and_delete, 1),
    Part("repair and delete", repair_and_delete, 1),
    Part("repair and return", repair_and_return, 1),
]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Proof 7: races."))
