"""What this device holds, and what of it changed since that was announced last.

Only the last state of a share is announced, and the last announcement holds: so it is enough to keep which shares
changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import msgspec

from common.protocol.device_messages import Grant, ShareName, SignedCommitment
from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import MAX_SHARES, AnnouncedShare, GrantedTo, Tombstone
from worker.layout import Layout, ShareKey
from worker.reading import OpenShare
from worker.share_file import ShareHeader


@dataclass
class Changes:
    """Changes to be announced to every broker."""

    tombstones: list[Tombstone] = field(default_factory=list)
    withdrawn: list[ShareName] = field(default_factory=list)
    announced: list[AnnouncedShare] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.tombstones or self.withdrawn or self.announced)


class Inventory:
    """The committed shares, sound or not, and the bytes of their files."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._shares: dict[ShareKey, AnnouncedShare] = {}
        self._sizes: dict[ShareKey, int] = {}
        self._changed: dict[ShareKey, None] = {}
        self._tombstones: dict[tuple[bytes, bytes], Tombstone] = {}  # by encoding id and owner
        self.quarantined: set[ShareKey] = set()  # whose file is in quarantine
        self._unknown: dict[ShareKey, int] = {}  # → bytes of a file that another version wrote
        self.used_bytes = 0
        self._owned: dict[bytes, int] = {}  # owner, or who left a share for one → bytes of the files that count for it

    @property
    def shares(self) -> Mapping[ShareKey, AnnouncedShare]:
        return self._shares

    def sound(self, key: ShareKey) -> bool:
        held = self._shares.get(key)
        return held is not None and held.sound

    def of_encoding(self, encoding_id: bytes) -> Iterator[ShareKey]:
        for share in range(MAX_SHARES):
            if (encoding_id, share) in self._shares:
                yield encoding_id, share

    def place(self, key: ShareKey) -> Path:
        """Where a held share's file is."""
        return self._layout.quarantined(key) if key in self.quarantined else self._layout.share(key)

    def size(self, key: ShareKey) -> int:
        """Bytes of a held share's file."""
        return self._sizes[key]

    def used_by(self, owner: bytes) -> int:
        """Bytes of the held shares of a vault, or of those that this depositor left, which count for no vault."""
        return self._owned.get(owner, 0)

    def unknown(self, key: ShareKey) -> bool:
        """Whether a share's file was left alone, since it is of a version that is not known here."""
        return key in self._unknown

    def unknown_of_encoding(self, encoding_id: bytes) -> bool:
        return any((encoding_id, share) in self._unknown for share in range(MAX_SHARES))

    def put(self, share: AnnouncedShare, size: int, *, quarantined: bool = False) -> None:
        """Add a share, in place of one of the same name."""
        key = (share.encoding_id, share.share)
        self.remove(key)
        self._shares[key], self._sizes[key] = share, size
        self.used_bytes += size
        whose = _counts_for(share)
        self._owned[whose] = self._owned.get(whose, 0) + size
        if quarantined:
            self.quarantined.add(key)

    def remove(self, key: ShareKey) -> None:
        """Remove a share; where it was not held, it is withdrawn once more."""
        self._changed[key] = None
        held = self._shares.pop(key, None)
        if held is not None:
            size = self._sizes.pop(key)
            self.used_bytes -= size
            whose = _counts_for(held)
            self._owned[whose] -= size
            if not self._owned[whose]:
                del self._owned[whose]
            self.quarantined.discard(key)

    def leave_alone(self, key: ShareKey, size: int) -> None:
        """Hold a share no longer, or not at all, whose file another version wrote; its room is taken all the same."""
        self.remove(key)
        self.used_bytes += size - self._unknown.get(key, 0)
        self._unknown[key] = size

    def mark(self, key: ShareKey, *, sound: bool) -> None:
        """Note whether a held share was found sound."""
        self._shares[key] = msgspec.structs.replace(self._shares[key], sound=sound)
        self.reannounce(key)

    def reannounce(self, key: ShareKey) -> None:
        """Have a share announced again, though it has not changed."""
        self._changed[key] = None

    def add_tombstone(self, tombstone: Tombstone) -> None:
        self._tombstones[tombstone.encoding_id, tombstone.owner] = tombstone

    def changes(self) -> Changes:
        """The changes since the last call."""
        changes = Changes(list(self._tombstones.values()))
        for key in self._changed:
            held = self._shares.get(key)
            if held is not None:
                changes.announced.append(held)
            else:
                changes.withdrawn.append(ShareName(*key))
        self._tombstones.clear()
        self._changed.clear()
        return changes


def announced(opened: OpenShare, *, sound: bool = True) -> AnnouncedShare:
    """The announcement of a share that can be opened."""
    information = opened.information
    return announcement(information.header, opened.signed, information.recipe.share_bytes, sound=sound)


def _counts_for(share: AnnouncedShare) -> bytes:
    """Whose quota a share takes: its owner's, once that has signed it."""
    return share.depositor or share.owner


def announcement(
    header: ShareHeader, signed: SignedCommitment, share_bytes: int, *, sound: bool = True
) -> AnnouncedShare:
    """The announcement of a committed share."""
    commitment = signed.commitment
    return AnnouncedShare(
        header.encoding_id,
        header.share,
        commitment.object_id,
        commitment.owner,
        header.k,
        header.n,
        share_bytes,
        sound,
        commitment.revision,
        granted(commitment.grants),
        signed.depositor,
    )


def granted(grants: list[Grant]) -> list[GrantedTo]:
    """Who else may read a share, as it is announced."""
    return [GrantedTo(grant.owner, grant.object_id) for grant in grants]


def unreadable(key: ShareKey, known: Optional[AnnouncedShare] = None) -> AnnouncedShare:
    """The announcement of a share that cannot be read."""
    if known is not None:
        return msgspec.structs.replace(known, sound=False)
    return AnnouncedShare(*key, None, NO_OWNER, 2, 2, 0, sound=False)
