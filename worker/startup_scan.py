"""At a worker's start what is in the store is fsynced, then indexed.

A worker may have been killed between a rename and the fsync of its folder. Then the file is there, but a power cut
might still undo the rename, so that it must not be acknowledged yet; worse, an fsync of its old folder might come
first. So the folders to which files may have moved are fsynced first, in the order in which no power cut in between
loses any: first the quarantine, then those of shares that were taken out of the trash (one of which a bad share may
have left for the quarantine), then the trash, the tombstones and the amendments, then those of recent shares. (The
operating system has written what is older than an hour.)

A folder for shares that cannot be listed costs the shares in it, and is said: they are not announced, nothing is stored
there or taken away, and the next start sees whether that is over. The store's own folders must all be readable.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from common.errors import IntegrityError
from worker.amendments import Amendments
from worker.disk import Disk, Entry
from worker.durability import Durability
from worker.inventory import Inventory, announced, unreadable
from worker.layout import Layout, ShareKey, file_name, read_key
from worker.reading import OpenShare, is_lasting
from worker.tombstones import Tombstones

log = logging.getLogger(__name__)

_LATELY = 3600.0  # seconds


@dataclass
class ShareFiles:
    """All that lies where shares do, as far as it can be listed."""

    files: list[Entry] = field(default_factory=list)
    recent: set[Path] = field(default_factory=set)  # the folders in which names came or went lately, those above too


def find_files(disk: Disk, layout: Layout, unix: float) -> ShareFiles:
    """List the folders for shares; OSError where not even the uppermost can be."""
    found, shares = ShareFiles(), layout.shares
    for upper in disk.entries(shares):
        for lower in _listed(disk, upper) or ():
            files = _listed(disk, lower)
            found.files += files or []
            if files is not None and lower.modified >= unix - _LATELY:
                found.recent |= {lower.path, upper.path, shares}
    return found


def _listed(disk: Disk, folder: Entry) -> Optional[list[Entry]]:
    """What a folder has; None where it is none, or cannot be listed."""
    if not folder.is_folder:
        return None
    try:
        return disk.entries(folder.path)
    except OSError as error:
        log.error("the shares in %s are left alone and not announced: it cannot be listed: %s", folder.path, error)
        return None


def confirm_names(layout: Layout, durability: Durability, tombstones: Tombstones, recent: set[Path]) -> None:
    """Make names durable that the last worker may not have; OSError where the disk refuses."""
    if durability.refusal is not None:
        return
    taken_back = {layout.share((t.encoding_id, 0)).parent for t, *_ in tombstones if not t.deleted}
    durability.sync_folder(layout.quarantine)
    for folder in sorted(taken_back & recent):
        durability.sync_folder(folder)
    for folder in (layout.trash, layout.tombstones, layout.amendments):
        durability.sync_folder(folder)
    for folder in sorted(recent):
        durability.sync_folder(folder)


def scan(
    disk: Disk, layout: Layout, inventory: Inventory, amendments: Amendments, files: Iterable[Entry]
) -> dict[ShareKey, Exception]:
    """Index all committed shares; those that are damaged or of an unknown version, and why."""
    bad: dict[ShareKey, Exception] = {}
    for path, size, *_ in files:
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
            if is_lasting(error):
                bad[key] = error
            else:
                log.error("the share %s cannot be read: %s", file_name(key), error)
            continue
        inventory.put(announced(opened), opened.size)
        opened.close()
    return bad
