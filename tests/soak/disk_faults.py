"""Proof 3: what a disk refuses is refused or moved, and said; nothing is acknowledged that is not there.

refusing disks    ENOSPC, EIO and short writes at each call of a put, on one device of seven: the share goes to
                  another, the producer says which device refused, and no fsync is tried again on the same file
unreadable disks  EIO on every read, on as many devices as may be lost: every image restores
full disks        file systems that are really full (a tmpfs, where mounting is allowed; else `--capacity`), filled
                  up while images are being stored
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.soak.ground import Keeper, SoakCluster, check_with_losses, new_cluster, new_user, wait_whole
from tests.soak.proof import Figures, Part, Terms, main

REFUSALS = [
    ("create", 1, "EIO"),
    ("create", 1, "ENOSPC"),
    ("append", 1, "EIO"),
    ("append", 3, "ENOSPC"),
    ("append", 5, "EIO"),
    ("append", 8, "ENOSPC"),
    ("sync", 1, "EIO"),
    ("sync", 1, "ENOSPC"),
    ("make_folder", 1, "ENOSPC"),
    ("rename_new", 1, "EIO"),
    ("rename_new", 1, "ENOSPC"),
    ("sync_folder", 1, "EIO"),
]
TMPFS_BYTES = 24 << 20
MENDED = 180.0  # seconds
TOUGH = ("-k", "2", "-n", "4")


def refusing_disks(terms: Terms) -> Figures:
    """Each refusal on one device: every image is stored whole, elsewhere; a fsync that failed is not repeated."""
    fired = refused = resynced = 0
    with new_cluster(terms.folder, 7) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        refusals = REFUSALS if terms.scale >= 1 else terms.random.sample(REFUSALS, 3)
        for method, number, action in refusals:
            if not terms.time_left:
                break
            fault = {"method": method, "at": number, "action": action, "times": 2}
            journal, said = _store_past(cluster, keeper, terms.random.randint(1, 7), fault)
            fired += "fired" in journal
            refused += said
            resynced += journal.count("resynced")
        short = _store_past(cluster, keeper, 1, {"method": "append", "at": 1, "action": "short"})[0]
        assert "fired short" in short
        cluster.revive()
        assert resynced == 0, "a file was fsynced again after its fsync had failed"
        assert refused == fired, "a device refused, and the producer did not say so"
        checked = keeper.check_on_disks(cluster)
        pairs = ((1, 2), (3, 4), (5, 6))
        restored = check_with_losses(cluster, [keeper], pairs if terms.scale >= 1 else pairs[:1])
    return {
        "faults": fired,
        "of": len(refusals),
        "said": refused,
        "fsyncs repeated": resynced,
        "images acknowledged": len(keeper.promises),
        "shares checked on disk": checked,
        "restored with devices lost": restored,
    }


def _store_past(cluster: SoakCluster, keeper: Keeper, index: int, fault: dict[str, Any]) -> tuple[str, bool]:
    """Store images until a device has met its fault: its journal, and whether the producer named the device."""
    cluster.kill_devices(index)
    path = cluster.start_faulty(index, [fault])
    cluster.wait_alive()
    said = False
    for _ in range(6):
        ended = keeper.put(keeper.make_folder(small=0, large=1))
        assert ended.exit_code == 0, (fault, ended)
        assert not ended.objects[0]["degraded"], f"six other devices are well: {fault}, {ended}"
        said = said or cluster.devices[index - 1] in ended.stderr
        if "fired" in path.read_text() and (said or fault["action"] == "short"):
            break
    cluster.kill_devices(index)
    cluster.start_device(index)
    cluster.wait_alive()
    return path.read_text(), said


def unreadable_disks(terms: Terms) -> Figures:
    """EIO on every read of n - k devices: every image restores, nothing wrong is given out."""
    restored = 0
    pairs = [(1, 2), (3, 4), (5, 6)]
    with new_cluster(terms.folder, 6) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        for options in (TOUGH, ()):
            assert keeper.put(keeper.make_folder(small=10, large=3, k=4), *options).exit_code == 0
        for pair in pairs if terms.scale >= 1 else pairs[:1]:
            cluster.kill_devices(*pair)
            for index in pair:
                # Reading begins once something was created: so each device first gets a share that it keeps.
                cluster.start_faulty(index, [{"method": "read_at", "at": 1, "action": "EIO", "times": 10**9}])
            cluster.wait_alive()
            assert keeper.put(keeper.make_folder(small=3, large=0)).exit_code == 0
            restored += keeper.check_restored(bearing=len(pair))
            fired = [(cluster.directory / f"device-{index}.journal").read_text().count("fired EIO") for index in pair]
            assert all(fired), "a disk was never read"
            for index in pair:
                cluster.kill_device(index)
            cluster.revive()
            # What could not be read counts as damaged, on a disk that reads again too, until it is rebuilt. The steward
            # passes over a device that refused a share for a minute.
            wait_whole(cluster, keeper, seconds=MENDED)
        keeper.check_restored()
    return {"images": len(keeper.promises), "restored from the others": restored}


# --- really full


def full_disks(terms: Terms) -> Figures:
    """Fill the file systems of two devices while images are being stored; then of so many that nothing fits."""
    with new_cluster(terms.folder, 6) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        cluster.kill_devices(1, 2)
        with _small_disks(cluster, 1, 2) as mounted:
            arguments = () if mounted else ("--capacity", str(TMPFS_BYTES // 2))
            cluster.revive(*arguments)
            refusals = 0
            for turn in range(terms.goal(6)):
                if mounted and turn:
                    _fill(cluster.directory / "device-1", leave=terms.random.randrange(0, 3 << 20))
                    _fill(cluster.directory / "device-2", leave=terms.random.randrange(0, 3 << 20))
                ended = keeper.put(keeper.make_folder(small=2, large=2), *TOUGH)
                assert ended.exit_code == 0, ended  # four devices have room
                refusals += "full" in ended.stderr or "device" in ended.stderr
                _empty(cluster.directory / "device-1", cluster.directory / "device-2")
            checked = keeper.check_on_disks(cluster)
            restored = keeper.check_restored()
            cluster.stop()
    return {
        "kind": "tmpfs" if mounted else "--capacity",
        "images acknowledged": len(keeper.promises),
        "puts that met a full disk": refusals,
        "shares checked on disk": checked,
        "restored": restored,
    }


@contextmanager
def _small_disks(cluster: SoakCluster, *indices: int) -> Iterator[bool]:
    """Give these devices, which do not run, a small file system each; whether that was possible."""
    stores = [cluster.directory / f"device-{index}" for index in indices]
    mounted: list[Path] = []
    try:
        for store in stores:
            if _mount(store):
                mounted.append(store)
        yield len(mounted) == len(stores)
    finally:
        for store in mounted:
            subprocess.run(["umount", "--lazy", str(store)], check=True)  # noqa: S607


def _mount(store: Path) -> bool:
    """A tmpfs in place of a store's folder, with what is in it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    aside = store.with_name(f"{store.name}-aside")
    shutil.copytree(store, aside)
    options = ["-t", "tmpfs", "-o", f"size={TMPFS_BYTES},mode=0700"]
    if subprocess.run(["mount", *options, "tessera-soak", str(store)], check=False).returncode != 0:  # noqa: S607
        return False
    shutil.copytree(aside, store, dirs_exist_ok=True)
    return True


def _fill(store: Path, leave: int) -> None:
    """Take a file system's room but for so many bytes: faster than the worker's next report."""
    usage = shutil.disk_usage(store)
    room = max(0, usage.free - leave)
    with (store / "ballast").open("wb") as file:
        file.write(bytes(room))


def _empty(*stores: Path) -> None:
    for store in stores:
        (store / "ballast").unlink(missing_ok=True)


PARTS = [
    Part("refusing disks", refusing_disks, 3),
    Part("unreadable disks", unreadable_disks, 1),
    Part("full disks", full_disks, 1),
]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Proof 3: disks that refuse."))
