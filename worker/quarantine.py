"""Moves shares that were found bad out of the way: so that they are not served by mistake, and can be stored anew.

One that is found, in reading, in the scrub or at the start, is marked, announced to every broker as damaged, and its
file moves to `quarantine/`. It stays announced so, after a restart too, until the share is stored anew on this device,
discarded or deleted. Its good blocks can still be read: they may be the last ones.

It is read again after every start, and where a broker asks: a disk that was badly connected, or an older worker that
could not read a newer one's files, has sent good shares here. What is good throughout moves back to its place. What
another version wrote is neither: it stays wherever it is, and is not announced.
"""

from __future__ import annotations

import logging
from typing import Callable

from common.errors import IntegrityError
from worker.amendments import Amendments
from worker.disk import Disk
from worker.durability import Durability
from worker.format_version import UnknownVersionError
from worker.inventory import Inventory, announced, unreadable
from worker.layout import Layout, ShareKey, file_name, read_key
from worker.reading import OpenShare

log = logging.getLogger(__name__)


class Quarantine:
    """`release` closes whatever has a share's file open: Windows renames no open file."""

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        durability: Durability,
        inventory: Inventory,
        amendments: Amendments,
        release: Callable[[ShareKey], None],
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._inventory = inventory
        self._amendments = amendments
        self._release = release
        self._unknown: set[ShareKey] = set()  # whose file in quarantine another version wrote

    def load(self) -> None:
        """List the folder, after all good shares are known; OSError where it cannot be listed."""
        for entry in self._disk.entries(self._layout.quarantine):
            key = read_key(entry.path.name)
            if key is not None:
                self._take_up(key, entry.size)

    def _take_up(self, key: ShareKey, size: int) -> None:
        try:
            opened = OpenShare(self._disk, self._layout.quarantined(key), *key, self._amendments)
        except UnknownVersionError as error:
            self._unknown.add(key)
            if key in self._inventory.shares:
                log.error("the share %s in quarantine is left alone: %s", file_name(key), error)
            else:
                self._leave_alone(key, size, error)
            return
        except (IntegrityError, OSError):
            share = unreadable(key)
        else:
            opened.close()
            share = announced(opened, sound=False)
        if self._inventory.sound(key):  # it was stored anew, and the worker ended before this could be removed
            self._remove(key)
        elif key not in self._inventory.shares:
            self._inventory.put(share, size, quarantined=True)

    def take(self, key: ShareKey, found: Exception) -> None:
        """Mark a held share as bad, and move its file if possible; one of an unknown version is left alone."""
        if isinstance(found, UnknownVersionError):
            self._release(key)
            self._leave_alone(key, self._inventory.size(key), found)
            return
        log.warning("the share %s is damaged: %s", file_name(key), found)
        if self._inventory.sound(key):
            self._inventory.mark(key, sound=False)
        self.move(key)

    def move(self, key: ShareKey) -> bool:
        """Move an unsound share's file to the quarantine; whether its path is free now."""
        if key in self._inventory.quarantined:
            return True
        if self._durability.refusal is not None or key in self._unknown:
            return False
        self._release(key)
        source, target = self._layout.share(key), self._layout.quarantined(key)
        try:
            self._durability.rename(source, target)
            self._inventory.quarantined.add(key)
            self._durability.sync_names(target, source)
        except FileNotFoundError as error:
            if self._disk.exists(source):
                log.error("cannot put the share %s into quarantine: %s", file_name(key), error)
                return False
            self._inventory.put(self._inventory.shares[key], 0)  # its file is gone
        except OSError as error:
            log.error("cannot put the share %s into quarantine: %s", file_name(key), error)
            return False
        return True

    def put_back(self, key: ShareKey, opened: OpenShare) -> None:
        """Move a share that was read whole out of quarantine, into its place; where that fails it stays, and is bad."""
        if self._durability.refusal is not None:
            return
        self._release(key)
        try:
            self._durability.move_new(self._layout.quarantined(key), self._layout.share(key))
        except OSError as error:
            log.error("cannot take the share %s out of quarantine: %s", file_name(key), error)
            return
        self._inventory.put(announced(opened), opened.size)
        log.warning("the share %s is good after all, and out of quarantine", file_name(key))

    def _leave_alone(self, key: ShareKey, size: int, found: Exception) -> None:
        log.error("the share %s is left alone and not announced: %s", file_name(key), found)
        self._inventory.leave_alone(key, size)

    def clear(self, key: ShareKey) -> None:
        """Remove the bad file of a share that was stored anew."""
        if key in self._inventory.quarantined:
            self._release(key)
            self._remove(key)

    def _remove(self, key: ShareKey) -> None:
        try:
            self._disk.remove(self._layout.quarantined(key))
        except OSError as error:
            log.warning("cannot remove %s from quarantine: %s", file_name(key), error)
