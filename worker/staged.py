"""All shares that are being stored on this device, and when their time is up.

Whoever goes on within a quarter of an hour keeps its place. What is idle for longer may go on too, for a day since it
was last touched, a restart of the worker included, unless its place or its room is needed before: then the one that is
idle for longest goes first. A put that is under way is never dropped for another's sake.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Callable, Optional

from common.protocol.device_messages import Open
from common.protocol.messages import MAX_SHARES, Code
from worker.declining import DeclineError
from worker.disk import Disk, Entry
from worker.layout import Layout, ShareKey
from worker.reading import is_damage
from worker.recovery import recover
from worker.share_file import share_header
from worker.staging import StagedShare, begin

log = logging.getLogger(__name__)

_IDLE_AFTER = 15 * 60.0  # seconds
_DROPPED_AFTER = 24 * 3600.0  # seconds
_MAX_STAGED = 512  # each has a file open, and a process may often have no more than 1024
MAX_STAGED_OF_ONE = _MAX_STAGED // 2  # of one owner


class StagedShares:
    """`now` is monotonic seconds."""

    def __init__(self, disk: Disk, layout: Layout) -> None:
        self._disk = disk
        self._layout = layout
        self._shares: dict[tuple[ShareKey, bytes], StagedShare] = {}  # by share and owner: none meets another's

    def __iter__(self) -> Iterator[StagedShare]:
        return iter(self._shares.values())

    def get(self, key: ShareKey, owner: bytes) -> Optional[StagedShare]:
        """The share that this owner is storing."""
        return self._shares.get((key, owner))

    def of_owner(self, owner: bytes) -> list[StagedShare]:
        """What this owner is storing."""
        return [staged for staged in self._shares.values() if staged.owner == owner]

    def begin(self, request: Open, owner: bytes, expected_bytes: int, now: float) -> None:
        """Begin to store a share; OSError where the disk refuses."""
        key = (request.encoding_id, request.share)
        header = share_header(*key, request.k, request.n, request.block_size)
        self._shares[key, owner] = begin(
            self._disk, self._layout.staged(key, owner), header, owner, expected_bytes, now
        )

    def require_places(self, count: int, owner: bytes) -> None:
        """DeclineError(BUSY) where so many more shares cannot be stored at once; idle ones give way.

        One owner has at most half of the places, so that nobody keeps all others out.
        """
        while len(self.of_owner(owner)) + count > MAX_STAGED_OF_ONE:
            if not self.evict(self.of_owner(owner)):
                raise DeclineError(Code.BUSY, "this vault stores too many shares at once")
        while len(self._shares) + count > _MAX_STAGED:
            if not self.evict(self):
                raise DeclineError(Code.BUSY, "too many shares are being stored at once")

    def evict(self, among: Iterable[StagedShare]) -> bool:
        """Drop the share that is idle for longest among these; False where none is."""
        idle = [staged for staged in among if staged.idle]
        if not idle:
            return False
        log.warning("dropped a share that nobody continued to store: others need its place")
        self.drop(min(idle, key=lambda staged: staged.touched))
        return True

    def drop(self, staged: StagedShare) -> None:
        self.forget(staged)
        staged.drop()

    def drop_encoding(self, encoding_id: bytes, owner: bytes) -> None:
        for share in range(MAX_SHARES):
            staged = self.get((encoding_id, share), owner)
            if staged is not None:
                self.drop(staged)

    def forget(self, staged: StagedShare) -> None:
        """Count it no longer, whatever became of its file."""
        if self._shares.get((staged.key, staged.owner)) is staged:
            del self._shares[staged.key, staged.owner]

    def expire(self, now: float) -> None:
        """Mark what is idle, and drop what nobody has continued for a day."""
        for staged in list(self._shares.values()):
            staged.idle = now - staged.touched > _IDLE_AFTER
            if now - staged.touched > _DROPPED_AFTER:
                log.warning("dropped a share that nobody continued to store for a day")
                self.drop(staged)

    def recover(self, wanted: Callable[[StagedShare], bool], unix: float, now: float) -> None:
        """At the start: take up what the last worker left, and remove what nobody may go on with."""
        for entry in self._disk.entries(self._layout.staging):
            try:
                staged = recover(self._disk, entry, now - max(0.0, unix - entry.modified))
            except OSError as error:
                log.warning("cannot take up %s: %s", entry.path, error)
                if is_damage(error):
                    self._remove(entry)
                continue
            if staged is not None:
                self._take_up(staged, wanted)
        self.expire(now)

    def _take_up(self, staged: StagedShare, wanted: Callable[[StagedShare], bool]) -> None:
        if len(self._shares) >= _MAX_STAGED or not wanted(staged):
            staged.drop()
        else:
            self._shares[staged.key, staged.owner] = staged

    def _remove(self, entry: Entry) -> None:
        try:
            self._disk.remove(entry.path)
        except OSError as error:
            log.warning("cannot remove %s: %s", entry.path, error)

    def close(self) -> None:
        """Leave all of them for the worker's next start."""
        for staged in self._shares.values():
            staged.leave()
        self._shares.clear()
