"""At a worker's start what is in the store is fsynced, then indexed.

A worker may have been killed between a rename and the fsync of its folder. Then the file is there, but a power cut
might still undo the rename, so that it must not be acknowledged yet; worse, an fsync of its old folder might come
first. So the folders to which files may have moved are fsynced first, in the order in which no power cut in between
loses any: first the quarantine, then those of shares that were taken out of the trash (one of which a bad share may
have left for the quarantine), then the trash, the tombstones and the amendments, then those of recent shares. (The
operating system has written what is older than an hour.)
"""

from __future__ import annotations

import logging
from pathlib import Path

from common.errors import IntegrityError
from worker.amendments import Amendments
from worker.disk import Disk, Entry
from worker.durability import Durability
from worker.inventory import Inventory, announced, unreadable
from worker.layout import Layout, ShareKey, file_name, read_key
from worker.reading import OpenShare, is_damage
from worker.tombstones import Tombstones

log = logging.getLogger(__name__)

_LATELY = 3600.0  # seconds


def confirm_names(disk: Disk, layout: Layout, durability: Durability, tombstones: Tombstones, unix: float) -> None:
    """Make names durable that the last worker may not have; OSError where the disk refuses."""
    taken_back = {layout.share((t.encoding_id, 0)).parent for t in tombstones if not t.deleted}
    recent = _recent_folders(disk, layout.shares, unix - _LATELY)
    durability.sync_folder(layout.quarantine)
    for folder in sorted(taken_back & recent):
        durability.sync_folder(folder)
    for folder in (layout.trash, layout.tombstones, layout.amendments):
        durability.sync_folder(folder)
    for folder in sorted(recent):
        durability.sync_folder(folder)


def _recent_folders(disk: Disk, shares: Path, since: float) -> set[Path]:
    """The folders for shares that changed recently, and those above them."""
    recent = set()
    for upper in disk.entries(shares):
        for lower in disk.entries(upper.path) if upper.is_folder else ():
            if lower.modified >= since and lower.is_folder:
                recent |= {lower.path, upper.path, shares}
    return recent


def scan(disk: Disk, layout: Layout, inventory: Inventory, amendments: Amendments) -> dict[ShareKey, Exception]:
    """Index all committed shares; those that were found damaged, and why."""
    damaged: dict[ShareKey, Exception] = {}
    for path, size, *_ in _files(disk, layout.shares):
        key = read_key(path.name)
        if key is None:
            continue
        if path != layout.share(key):
            log.warning("%s is not in its place; it is left alone", path)
            continue
        try:
            opened = OpenShare(disk, path, *key, amendments)
        except (IntegrityError, OSError) as error:
            inventory.put(unreadable(key), size)  # it takes its room
            if is_damage(error):
                damaged[key] = error
            else:
                log.warning("the share %s cannot be read: %s", file_name(key), error)
            continue
        inventory.put(announced(opened), opened.size)
        opened.close()
    return damaged


def _files(disk: Disk, shares: Path) -> list[Entry]:
    """All files in the folders for shares."""
    found = [Entry(shares, 0, 0.0, is_folder=True)]
    for _ in range(3):
        found = [entry for folder in found if folder.is_folder for entry in disk.entries(folder.path)]
    return found
