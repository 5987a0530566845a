"""The entries of the catalog's rows that are worked on: read many at once, written back many at once."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Sequence
from typing import Optional

from broker.catalog_rows import CatalogRows, Kept
from broker.claims import Entry
from broker.plain import Plain

_HELD = 16_384  # encodings
_WALKED = 2000  # rows of a device looked at together


class Entries:
    """By encoding id. Whoever changes an entry says so by `change`."""

    def __init__(self, rows: CatalogRows) -> None:
        self._rows = rows
        self._held: dict[bytes, Kept] = {}  # some of all, and empty ones of encodings that there are not
        self._changed: dict[bytes, None] = {}  # of these, those that are to be written
        self.count = rows.count()
        self.last_ref = rows.last_ref()  # of the encoding that came last

    def hold(self, encoding_ids: Sequence[bytes]) -> None:
        """Read all of these at once that are not held, since they are asked for next."""
        if len(self._held) > _HELD:
            self.write()
            for encoding_id in list(itertools.islice(self._held, len(self._held) // 2)):
                del self._held[encoding_id]
        missing = [encoding_id for encoding_id in dict.fromkeys(encoding_ids) if encoding_id not in self._held]
        if missing:
            self._held.update((encoding_id, Plain(0, encoding_id)) for encoding_id in missing)
            self._held.update((kept.encoding_id, kept) for kept in self._rows.entries(missing))

    def plain(self, encoding_id: bytes) -> Optional[Plain]:
        """One that `hold` was asked for, as it is packed; None where it is no plain one."""
        kept = self._held[encoding_id]
        return kept if isinstance(kept, Plain) else None

    def get(self, encoding_id: bytes) -> Optional[Entry]:
        """What is said of an encoding; None where that is nothing."""
        if encoding_id not in self._held:
            self.hold([encoding_id])
        kept = self._held[encoding_id]
        if isinstance(kept, Plain):
            if not kept.claim:
                return None
            kept = self.unpack(kept)
        return None if kept.is_empty else kept

    def unpack(self, plain: Plain) -> Entry:
        """It is about to become more than that."""
        entry = self._held[plain.encoding_id] = self._rows.unpacked(plain)
        return entry

    def add(self, encoding_id: bytes) -> Entry:
        """An entry for an encoding of which `get` said that there is none."""
        kept = self._held[encoding_id]
        entry = self.unpack(kept) if isinstance(kept, Plain) else kept
        self.enter(entry)
        return entry

    def enter(self, kept: Kept) -> None:
        """Number an encoding of which nothing was said before."""
        if not kept.ref:
            self.last_ref += 1
            kept.ref = self.last_ref
        self.count += 1

    def change(self, kept: Kept) -> None:
        self._held[kept.encoding_id] = kept
        self._changed[kept.encoding_id] = None

    def write(self) -> None:
        """For whoever reads the rows."""
        if self._changed:
            self._rows.write([self._held[encoding_id] for encoding_id in self._changed])
            self._changed.clear()

    def on(self, device: bytes) -> Iterator[Entry]:
        """Those that name a device, as they came; they may be changed meanwhile."""
        return (entry for entries in self.parts_on(device) for entry in entries)

    def parts_on(self, device: bytes, without: Container[int] = ()) -> Iterator[list[Entry]]:
        """The same part by part, `without` some by their refs."""
        after = 0
        while rows := self._rows_on(device, after):
            yield list(self._of([encoding_id for ref, encoding_id in rows if ref not in without]))
            after = rows[-1][0]

    def last_on(self, device: bytes) -> Iterator[Entry]:
        """As `on`, the last first."""
        before = self.last_ref + 1
        while rows := self._rows_on(device, -before):
            yield from self._of([encoding_id for _, encoding_id in rows])
            before = rows[-1][0]

    def _rows_on(self, device: bytes, behind: int) -> list[tuple[int, bytes]]:
        self.write()
        return self._rows.encodings_on(device, behind, _WALKED)

    def _of(self, encoding_ids: Sequence[bytes]) -> Iterator[Entry]:
        self.hold(encoding_ids)
        for encoding_id in encoding_ids:
            entry = self.get(encoding_id)
            if entry is not None:
                yield entry
