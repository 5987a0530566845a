"""Shares that go for good: from the trash, or since they were stored anew.

Of each a removal is written, so that it does not come back with an index that is made anew or older, nor with a file
that a power cut brought back; the bytes of one in a pack are given back by `compaction`. Neither a removal nor that of
a file is fsynced: what comes back after a power cut is found to be deleted, surplus or damaged once more.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Callable

from worker.disk import Disk
from worker.durability import Durability
from worker.index import Index, Removal
from worker.layout import Layout
from worker.pack_format import Kind
from worker.packs import Packs, Record
from worker.refusals import Refusal
from worker.share_states import KeptShare

log = logging.getLogger(__name__)


class Remover:
    """`release` closes whatever has a share open: Windows removes no open file."""

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        durability: Durability,
        packs: Packs,
        index: Index,
        release: Callable[[int], None],
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._packs = packs
        self._index = index
        self._release = release

    def remove(self, shares: Sequence[KeptShare]) -> None:
        """Remove shares; OSError where the disk refuses to change the index."""
        if not shares or self._durability.refusal is not None:
            return
        with self._index.transaction():
            self.forget(shares)
        self.clear(shares)

    def forget(self, shares: Sequence[KeptShare]) -> None:
        """Take shares out of the index, within a transaction."""
        for kept in shares:
            self._index.remove(kept)

    def clear(self, shares: Sequence[KeptShare]) -> None:
        """Give back what shares took that are not in the index any more, as far as the disk lets us."""
        for kept in shares:
            self._release(kept.serial)
        if self._durability.refusal is not None:
            return
        self._write(shares)
        for kept in shares:
            if not kept.place.pack:
                self._disk.remove_or_leave(self._layout.share(kept.key, kept.serial))

    def _write(self, shares: Sequence[KeptShare]) -> None:
        """Write removals. A full disk takes none, and has to get rid of shares all the same."""
        if not shares:
            return
        try:
            records = [Record(Kind.REMOVAL, kept.key, self._index.next_serial(), kept.serial) for kept in shares]
            places = self._packs.append(records)
            with self._index.transaction():
                for record, kept, place in zip(records, shares, places):
                    self._index.add_removal(Removal(record.serial, kept.serial, kept.place.pack, place))
        except (OSError, Refusal) as error:
            log.warning("cannot write that %d shares are gone: %s", len(shares), error)
