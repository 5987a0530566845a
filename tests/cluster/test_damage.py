"""Shares that are not what was stored: the image comes from the others, and the device is named.

They are damaged in place, in packs and in files of their own, behind the running worker's back, and once more met by it
when it starts anew.
"""

from __future__ import annotations

import os
from typing import Callable

import pytest

from cluster.local import LocalCluster
from tests.support.devices import held_shares, number_of, restart, revive, wait_lost
from tests.support.programs import User, files_below, random_bytes
from tests.support.store_folder import ShareRecord

Damage = Callable[[ShareRecord, "Scene"], None]
SMALL, LONG = 60_000, 9_000_000  # bytes: of one segment, in packs, and of three, in files of their own
ATTEMPTS = 3


class Scene:
    """An image that was stored, and its shares."""

    def __init__(self, cluster: LocalCluster, owner: User, size: int) -> None:
        self.content = random_bytes(size)
        self._owner = owner
        before = held_shares(cluster)
        self.stored = owner.store_bytes(self.content)
        self.records = sorted(held_shares(cluster) - before, key=lambda record: record.share)
        self._cluster, self._size = cluster, size

    def share_of_another_image(self, share: int) -> bytes:
        """A share of an image that is just as long, in the same vault."""
        before = held_shares(self._cluster)
        self._owner.store_bytes(random_bytes(self._size))
        (record,) = (record for record in held_shares(self._cluster) - before if record.share == share)
        return record.read()

    def check_restored_without(self, *bad: ShareRecord) -> None:
        """Restore it, more than once where a device that must be named was too late for the get to need its answer."""
        for _ in range(ATTEMPTS):
            ended = self._owner.restore(self.stored["sha256"], output=self._owner.folder / "out", options=("--force",))
            assert ended.exit_code == 0, ended
            assert (self._owner.folder / "out").read_bytes() == self.content
            if all(record.device in ended.stderr for record in bad):
                return
        raise AssertionError(f"{[record.device for record in bad]} are not named: {ended}")

    def check_lost(self) -> None:
        folder = self._owner.folder / "empty"
        folder.mkdir(exist_ok=True)
        ended = self._owner.restore(self.stored["sha256"], output=folder / "out")
        assert ended.exit_code in (4, 5), ended
        assert files_below(folder) == []
        assert ended.stdout == b""


def flip_in_block(record: ShareRecord, scene: Scene) -> None:
    record.flip(5000)


def flip_in_header(record: ShareRecord, scene: Scene) -> None:
    record.flip(25)


def flip_in_trailer(record: ShareRecord, scene: Scene) -> None:
    record.flip(-200)


def flip_in_footer(record: ShareRecord, scene: Scene) -> None:
    record.flip(-20)


def cut_short(record: ShareRecord, scene: Scene) -> None:
    record.replace(record.read()[:-1000])


def cut_to_nothing(record: ShareRecord, scene: Scene) -> None:
    record.replace(b"")


def fill_with_zeros(record: ShareRecord, scene: Scene) -> None:
    record.replace(bytes(record.length))


def swap_with_another_share_of_the_image(record: ShareRecord, scene: Scene) -> None:
    other = next(each for each in scene.records if each.share == (record.share + 1) % 6)
    record.replace(other.read())


def swap_with_another_images(record: ShareRecord, scene: Scene) -> None:
    record.replace(scene.share_of_another_image(record.share))


def lose(record: ShareRecord, scene: Scene) -> None:
    record.lose()


DAMAGES = [
    flip_in_block,
    flip_in_header,
    flip_in_trailer,
    flip_in_footer,
    cut_short,
    fill_with_zeros,
    swap_with_another_share_of_the_image,
    swap_with_another_images,
    lose,
]


@pytest.mark.parametrize(
    ("damage", "size"),
    [(damage, SMALL) for damage in DAMAGES]
    + [(damage, LONG) for damage in (flip_in_block, cut_short, cut_to_nothing, lose)],
)
def test_a_damaged_share_is_made_up_for_and_its_device_named(
    fragile_cluster: LocalCluster, owner: User, damage: Damage, size: int
) -> None:
    scene = Scene(fragile_cluster, owner, size)
    victim = scene.records[0]  # a data share: it is asked for first
    damage(victim, scene)
    scene.check_restored_without(victim)
    restart(fragile_cluster, number_of(fragile_cluster, victim.device))
    scene.check_restored_without(victim)


@pytest.mark.parametrize("left", ["half of it", "what precedes it", "nothing"])
def test_a_pack_that_lost_its_end_or_all_costs_what_lay_there(
    fragile_cluster: LocalCluster, owner: User, left: str
) -> None:
    restart(fragile_cluster, 1)  # its next pack is a new one
    scene = Scene(fragile_cluster, owner, SMALL)
    (victim,) = (record for record in scene.records if record.device == "device-1")
    fragile_cluster.kill_device(1)
    if left == "nothing":
        victim.path.unlink()
    else:
        os.truncate(victim.path, victim.offset + (victim.length // 2 if left == "half of it" else -1))
    revive(fragile_cluster)
    scene.check_restored_without(victim)


@pytest.mark.parametrize("size", [SMALL, LONG])
def test_a_share_damaged_after_it_was_read_is_not_given_out_as_good(
    fragile_cluster: LocalCluster, owner: User, size: int
) -> None:
    scene = Scene(fragile_cluster, owner, size)
    scene.check_restored_without()
    (owner.folder / "out").unlink()
    flip_in_block(scene.records[0], scene)
    scene.check_restored_without(scene.records[0])


def test_two_damaged_shares_are_made_up_for_and_both_devices_named(fragile_cluster: LocalCluster, owner: User) -> None:
    scene = Scene(fragile_cluster, owner, 9_000_000)
    flip_in_block(scene.records[1], scene)
    cut_short(scene.records[3], scene)
    scene.check_restored_without(scene.records[1], scene.records[3])


def test_one_device_lost_and_one_share_damaged_are_made_up_for(fragile_cluster: LocalCluster, owner: User) -> None:
    scene = Scene(fragile_cluster, owner, 60_000)
    flip_in_block(scene.records[0], scene)
    fragile_cluster.kill_device(number_of(fragile_cluster, scene.records[5].device))
    scene.check_restored_without(scene.records[0])


def test_damage_in_every_share_but_each_in_another_segment_is_made_up_for(
    fragile_cluster: LocalCluster, owner: User
) -> None:
    scene = Scene(fragile_cluster, owner, 12_000_000)
    for record, segment in zip(scene.records, (0, 0, 1, 1, 2, 2)):
        record.flip(segment * (1 << 20) + 5000)
    scene.check_restored_without(*scene.records[:4])


@pytest.mark.parametrize(
    ("damage", "scanned"), [(flip_in_block, False), (lose, False), (flip_in_block, True), (cut_short, True)]
)
def test_more_damage_than_can_be_made_up_for_leaves_no_file(
    fragile_cluster: LocalCluster, owner: User, damage: Damage, scanned: bool
) -> None:
    scene = Scene(fragile_cluster, owner, 9_000_000)
    for record in scene.records[1:4]:
        damage(record, scene)
    if scanned:
        restart(fragile_cluster, *(number_of(fragile_cluster, record.device) for record in scene.records[1:4]))
    scene.check_lost()


def test_an_existing_file_survives_a_get_that_fails(fragile_cluster: LocalCluster, owner: User) -> None:
    scene = Scene(fragile_cluster, owner, 9_000_000)
    for record in scene.records[:3]:
        record.flip(2_500_000 % record.length)
    out = owner.folder / "out"
    out.write_bytes(b"precious")
    ended = owner.restore(scene.stored["sha256"], output=out, options=("--force",))
    assert ended.exit_code == 4, ended
    assert out.read_bytes() == b"precious"


@pytest.mark.parametrize("scanned", [False, True], ids=["live", "scanned"])
@pytest.mark.parametrize("size", [SMALL, 3_000_000])
def test_a_share_replaced_by_an_older_encodings_is_made_up_for(
    fragile_cluster: LocalCluster, owner: User, scanned: bool, size: int
) -> None:
    """Stored, then lost to all but four devices, and so stored again: two encodings of one image in one vault."""
    before = held_shares(fragile_cluster)
    content = random_bytes(size)
    older = owner.store_bytes(content, "-k", "4", "-n", "6")
    old = {record.share: record for record in held_shares(fragile_cluster) - before}
    lost = [number_of(fragile_cluster, old[share].device) for share in (0, 1)]
    for index in lost:
        fragile_cluster.kill_device(index)
    wait_lost(fragile_cluster, *lost)  # before, the image counts as stored
    (newer,) = owner.store(older["path"], "-k", "2", "-n", "4")
    assert newer["already_stored"] is False
    revive(fragile_cluster)
    new = {record.share: record for record in held_shares(fragile_cluster) - before - set(old.values())}
    assert len(new) == 4
    for share in (2, 3, 4, 5):  # what is left of the old encoding restores nothing by itself
        if share < 4:
            new[share - 2].replace(old[share].read())
        old[share].replace(b"")
    if scanned:
        restart(fragile_cluster, *(number_of(fragile_cluster, new[share].device) for share in (0, 1)))
    out = owner.folder / "out"
    ended = owner.restore(older["sha256"], output=out)
    assert ended.exit_code == 0, ended
    assert out.read_bytes() == content
    for share in (0, 1):
        assert new[share].device in ended.stderr
