"""The entries of the catalog's rows that are worked on: read many at once, written back many at once."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Optional

from broker.catalog_rows import CatalogRows
from broker.claims import Entry

_HELD = 4096  # entries
_WALKED = 2000  # rows of a device looked at together


class Entries:
    """By encoding id. Whoever changes an entry says so by `change`."""

    def __init__(self, rows: CatalogRows) -> None:
        self._rows = rows
        self._held: dict[bytes, Entry] = {}  # some of all, and empty ones of encodings that there are not
        self._changed: set[Entry] = set()  # of these, those that are to be written
        self.count = rows.count()
        self.last_ref = rows.last_ref()  # of the encoding that came last

    def hold(self, encoding_ids: Sequence[bytes]) -> None:
        """Read all of these at once that are not held, since they are asked for next."""
        if len(self._held) > _HELD:
            self.write()
            self._held.clear()
        missing = [encoding_id for encoding_id in dict.fromkeys(encoding_ids) if encoding_id not in self._held]
        if missing:
            self._held.update((encoding_id, Entry(0, encoding_id)) for encoding_id in missing)
            self._held.update((entry.encoding_id, entry) for entry in self._rows.entries(missing))

    def get(self, encoding_id: bytes) -> Optional[Entry]:
        """What is said of an encoding; None where that is nothing."""
        entry = self._held.get(encoding_id)
        if entry is None:
            self.hold([encoding_id])
            entry = self._held[encoding_id]
        return None if entry.is_empty else entry

    def add(self, encoding_id: bytes) -> Entry:
        """An entry for an encoding of which `get` said that there is none."""
        entry = self._held[encoding_id]
        if not entry.ref:
            self.last_ref += 1
            entry.ref = self.last_ref
        self.count += 1
        return entry

    def change(self, entry: Entry) -> None:
        self._changed.add(entry)

    def write(self) -> None:
        """For whoever reads the rows."""
        if self._changed:
            self._rows.write(self._changed)
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
