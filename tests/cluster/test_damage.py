"""Shares that are not what was stored: the image comes from the others, and the device is named.

Files are damaged in place, behind the running worker's back, and once more met by its scan when it starts anew.
"""

from __future__ import annotations

from typing import Callable

import pytest

from cluster.local import LocalCluster
from tests.support.devices import ShareFile, number_of, restart, revive, share_files, wait_lost
from tests.support.programs import User, files_below, random_bytes

Damage = Callable[[ShareFile, "Scene"], None]
SMALL, LONG = 60_000, 9_000_000  # bytes: of one segment, and of three
ATTEMPTS = 3


class Scene:
    """An image that was stored, and the files of its shares."""

    def __init__(self, cluster: LocalCluster, owner: User, size: int) -> None:
        self.content = random_bytes(size)
        self._owner = owner
        before = share_files(cluster)
        self.stored = owner.store_bytes(self.content)
        self.files = sorted(share_files(cluster) - before, key=lambda file: file.share)
        self._cluster, self._size = cluster, size

    def share_of_another_image(self, share: int) -> bytes:
        """The file of a share of an image that is just as long, in the same vault."""
        before = share_files(self._cluster)
        self._owner.store_bytes(random_bytes(self._size))
        (file,) = (file for file in share_files(self._cluster) - before if file.share == share)
        return file.path.read_bytes()

    def check_restored_without(self, *bad: ShareFile, named: bool = True) -> None:
        """Restore it, more than once where a device that must be named was too late for the get to need its answer."""
        for _ in range(ATTEMPTS):
            ended = self._owner.restore(self.stored["sha256"], output=self._owner.folder / "out", options=("--force",))
            assert ended.exit_code == 0, ended
            assert (self._owner.folder / "out").read_bytes() == self.content
            if not named or all(file.device in ended.stderr for file in bad):
                return
        raise AssertionError(f"{[file.device for file in bad]} are not named: {ended}")

    def check_lost(self) -> None:
        folder = self._owner.folder / "empty"
        folder.mkdir(exist_ok=True)
        ended = self._owner.restore(self.stored["sha256"], output=folder / "out")
        assert ended.exit_code in (4, 5), ended
        assert files_below(folder) == []
        assert ended.stdout == b""


def flip(file: ShareFile, offset: int) -> None:
    """Flip one bit of a byte, in place; a negative offset counts from the end."""
    content = bytearray(file.path.read_bytes())
    content[offset] ^= 0x40
    overwrite(file, bytes(content))


def overwrite(file: ShareFile, content: bytes) -> None:
    """Give the file other content, in place, as a disk would: a worker that has it open sees it."""
    with file.path.open("r+b") as opened:
        opened.write(content)
        opened.truncate()


def flip_in_block(file: ShareFile, scene: Scene) -> None:
    flip(file, 5000)


def flip_in_header(file: ShareFile, scene: Scene) -> None:
    flip(file, 25)


def flip_in_trailer(file: ShareFile, scene: Scene) -> None:
    flip(file, -200)


def flip_in_footer(file: ShareFile, scene: Scene) -> None:
    flip(file, -20)


def cut_short(file: ShareFile, scene: Scene) -> None:
    overwrite(file, file.path.read_bytes()[:-1000])


def cut_to_nothing(file: ShareFile, scene: Scene) -> None:
    overwrite(file, b"")


def fill_with_zeros(file: ShareFile, scene: Scene) -> None:
    overwrite(file, bytes(file.path.stat().st_size))


def swap_with_another_share_of_the_image(file: ShareFile, scene: Scene) -> None:
    other = next(each for each in scene.files if each.share == (file.share + 1) % 6)
    overwrite(file, other.path.read_bytes())


def swap_with_another_images(file: ShareFile, scene: Scene) -> None:
    overwrite(file, scene.share_of_another_image(file.share))


def delete(file: ShareFile, scene: Scene) -> None:
    file.path.unlink()


DAMAGES = [
    flip_in_block,
    flip_in_header,
    flip_in_trailer,
    flip_in_footer,
    cut_short,
    cut_to_nothing,
    fill_with_zeros,
    swap_with_another_share_of_the_image,
    swap_with_another_images,
    delete,
]


@pytest.mark.parametrize(
    ("damage", "size"),
    [(damage, SMALL) for damage in DAMAGES] + [(damage, LONG) for damage in (flip_in_block, cut_short, delete)],
)
def test_a_damaged_share_is_made_up_for_and_its_device_named(
    fragile_cluster: LocalCluster, owner: User, damage: Damage, size: int
) -> None:
    scene = Scene(fragile_cluster, owner, size)
    victim = scene.files[0]  # a data share: it is asked for first
    damage(victim, scene)
    scene.check_restored_without(victim)
    restart(fragile_cluster, number_of(fragile_cluster, victim.device))
    # A share that is not there is not announced either: nobody can know any more that the device had it.
    scene.check_restored_without(victim, named=damage is not delete)


def test_a_share_damaged_after_it_was_read_is_not_given_out_as_good(fragile_cluster: LocalCluster, owner: User) -> None:
    scene = Scene(fragile_cluster, owner, 60_000)
    scene.check_restored_without()
    (owner.folder / "out").unlink()
    flip_in_block(scene.files[0], scene)
    scene.check_restored_without(scene.files[0])


def test_two_damaged_shares_are_made_up_for_and_both_devices_named(fragile_cluster: LocalCluster, owner: User) -> None:
    scene = Scene(fragile_cluster, owner, 9_000_000)
    flip_in_block(scene.files[1], scene)
    cut_short(scene.files[3], scene)
    scene.check_restored_without(scene.files[1], scene.files[3])


def test_one_device_lost_and_one_share_damaged_are_made_up_for(fragile_cluster: LocalCluster, owner: User) -> None:
    scene = Scene(fragile_cluster, owner, 60_000)
    flip_in_block(scene.files[0], scene)
    fragile_cluster.kill_device(number_of(fragile_cluster, scene.files[5].device))
    scene.check_restored_without(scene.files[0])


def test_damage_in_every_share_but_each_in_another_segment_is_made_up_for(
    fragile_cluster: LocalCluster, owner: User
) -> None:
    scene = Scene(fragile_cluster, owner, 12_000_000)
    for file, segment in zip(scene.files, (0, 0, 1, 1, 2, 2)):
        flip(file, segment * (1 << 20) + 5000)
    scene.check_restored_without(*scene.files[:4])


@pytest.mark.parametrize(
    ("damage", "scanned"), [(flip_in_block, False), (delete, False), (flip_in_block, True), (cut_short, True)]
)
def test_more_damage_than_can_be_made_up_for_leaves_no_file(
    fragile_cluster: LocalCluster, owner: User, damage: Damage, scanned: bool
) -> None:
    scene = Scene(fragile_cluster, owner, 9_000_000)
    for file in scene.files[1:4]:
        damage(file, scene)
    if scanned:
        restart(fragile_cluster, *(number_of(fragile_cluster, file.device) for file in scene.files[1:4]))
    scene.check_lost()


def test_an_existing_file_survives_a_get_that_fails(fragile_cluster: LocalCluster, owner: User) -> None:
    scene = Scene(fragile_cluster, owner, 9_000_000)
    for file in scene.files[:3]:
        flip(file, 2_500_000 % file.path.stat().st_size)
    out = owner.folder / "out"
    out.write_bytes(b"precious")
    ended = owner.restore(scene.stored["sha256"], output=out, options=("--force",))
    assert ended.exit_code == 4, ended
    assert out.read_bytes() == b"precious"


@pytest.mark.parametrize("scanned", [False, True], ids=["live", "scanned"])
def test_a_share_replaced_by_an_older_encodings_is_made_up_for(
    fragile_cluster: LocalCluster, owner: User, scanned: bool
) -> None:
    """Stored, then lost to all but four devices, and so stored again: two encodings of one image in one vault."""
    before = share_files(fragile_cluster)
    content = random_bytes(60_000)
    older = owner.store_bytes(content, "-k", "4", "-n", "6")
    old = {file.share: file for file in share_files(fragile_cluster) - before}
    lost = [number_of(fragile_cluster, old[share].device) for share in (0, 1)]
    for index in lost:
        fragile_cluster.kill_device(index)
    wait_lost(fragile_cluster, *lost)  # before, the image counts as stored
    (newer,) = owner.store(older["path"], "-k", "2", "-n", "4")
    assert newer["already_stored"] is False
    revive(fragile_cluster)
    new = {file.share: file for file in share_files(fragile_cluster) - before - set(old.values())}
    assert len(new) == 4
    for share in (2, 3, 4, 5):  # what is left of the old encoding restores nothing by itself
        if share < 4:
            overwrite(new[share - 2], old[share].path.read_bytes())
        overwrite(old[share], b"")
    if scanned:
        restart(fragile_cluster, *(number_of(fragile_cluster, new[share].device) for share in (0, 1)))
    out = owner.folder / "out"
    ended = owner.restore(older["sha256"], output=out)
    assert ended.exit_code == 0, ended
    assert out.read_bytes() == content
    for share in (0, 1):
        assert new[share].device in ended.stderr
