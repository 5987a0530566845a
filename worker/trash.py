"""Deleted and discarded shares, kept for a while.

    <encoding>.<share>.<owner>.deleted   by this owner; can be undeleted, until its tombstone expires
    <encoding>.<share>.<owner>.damaged   the same of a share that was in quarantine
    <encoding>.<share>.<seconds>         surplus: other devices have this share too; until these Unix seconds, or until
                                         its room is needed, oldest first

The owner is in the name so that nobody's deletion replaces what another deleted under the same id. All of it takes room
and counts as used. Files are removed without an fsync: one that comes back after a power cut is removed again.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from common.protocol.messages import MAX_SHARES
from worker.disk import Disk
from worker.durability import Durability
from worker.layout import Layout, ShareKey, read_key

log = logging.getLogger(__name__)

DELETED = "deleted"
DAMAGED = "damaged"
_DELETED_NAME = re.compile(rf"([0-9a-f]{{32}}\.[0-3][0-9a-f])\.([0-9a-f]{{32}}\.(?:{DELETED}|{DAMAGED}))")
_SURPLUS_NAME = re.compile(r"([0-9a-f]{32}\.[0-3][0-9a-f])\.([0-9]{1,15})")


def fate_of_deleted(owner: bytes, *, sound: bool) -> str:
    return f"{owner.hex()}.{DELETED if sound else DAMAGED}"


@dataclass(frozen=True)
class TrashedShare:
    key: ShareKey
    fate: str  # what follows the share in the file's name
    path: Path
    size: int

    @property
    def surplus(self) -> bool:
        return "." not in self.fate

    @property
    def sound(self) -> bool:
        return self.fate.endswith(DELETED)

    @property
    def owner(self) -> bytes:
        """Of a deleted share, who deleted it."""
        return bytes.fromhex(self.fate.partition(".")[0])


class Trash:
    def __init__(self, disk: Disk, layout: Layout, durability: Durability) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._shares: dict[tuple[ShareKey, str], TrashedShare] = {}
        self.used_bytes = 0
        self.surplus_bytes = 0  # of those, what is removed where room is needed

    def load(self) -> None:
        """Read the folder; OSError where it cannot be listed."""
        for entry in self._disk.entries(self._layout.trash):
            name = entry.path.name
            match = _DELETED_NAME.fullmatch(name) or _SURPLUS_NAME.fullmatch(name)
            key = read_key(match[1]) if match else None
            if match and key is not None:
                self._add(TrashedShare(key, match[2], entry.path, entry.size))

    def deleted(self, encoding_id: bytes, owner: bytes) -> list[TrashedShare]:
        """The shares of an encoding that this owner deleted and can undelete."""
        fates = [fate_of_deleted(owner, sound=sound) for sound in (True, False)]
        names = [((encoding_id, share), fate) for share in range(MAX_SHARES) for fate in fates]
        return [self._shares[name] for name in names if name in self._shares]

    def deleted_encodings(self) -> set[tuple[bytes, bytes]]:
        """The encodings of which something can be undeleted, each with the owner who can."""
        return {(share.key[0], share.owner) for share in self._shares.values() if not share.surplus}

    def take(self, source: Path, key: ShareKey, size: int, fate: str) -> Path:
        """Move a share's file here, durable once both folders are synced; its path. OSError where the disk refuses."""
        target = self._layout.trashed(key, fate)
        self._durability.rename(source, target)
        self._add(TrashedShare(key, fate, target, size))
        return target

    def put_back(self, share: TrashedShare, target: Path) -> None:
        """Move a share's file to where it was, durable once both folders are synced; OSError where the disk refuses."""
        self._durability.rename(share.path, target)
        self._forget(share.key, share.fate)

    def remove(self, share: TrashedShare) -> None:
        self._disk.remove(share.path)
        self._forget(share.key, share.fate)

    def purge_surplus(self, unix: float) -> None:
        """Remove the expired surplus shares; OSError where the disk refuses."""
        for share in self._surplus():
            if int(share.fate) <= unix:
                self.remove(share)

    def purge_oldest(self) -> bool:
        """Remove the oldest surplus share that can be removed; False where there is none."""
        for share in self._surplus():
            try:
                self.remove(share)
            except OSError as error:
                log.warning("cannot remove %s: %s", share.path, error)
                continue
            log.info("purged a surplus share from the trash: its room is needed")
            return True
        return False

    def _surplus(self) -> list[TrashedShare]:
        """Surplus shares, the oldest first."""
        return sorted((s for s in self._shares.values() if s.surplus), key=lambda share: int(share.fate))

    def _add(self, share: TrashedShare) -> None:
        self._forget(share.key, share.fate)  # a surplus share that came twice within a second replaced the first
        self._shares[share.key, share.fate] = share
        self._count(share, 1)

    def _forget(self, key: ShareKey, fate: str) -> None:
        gone = self._shares.pop((key, fate), None)
        if gone is not None:
            self._count(gone, -1)

    def _count(self, share: TrashedShare, sign: int) -> None:
        self.used_bytes += sign * share.size
        if share.surplus:
            self.surplus_bytes += sign * share.size
