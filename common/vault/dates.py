"""When images were stored and taken, in columns: so that a million are put in order without opening a row of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from common.vault.index_rows import Described

Numbers = npt.NDArray[np.int64]

_NUMBER, _STORED, _DATE, _SHA256, _NAME, _NAME_ON = range(6)  # columns
_COLUMNS = 6
_LEAST = -(2**63)


class PackedDates(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """As a row keeps them: whole numbers of 8 bytes, the lowest first."""

    table: bytes
    media_types: list[str]


@dataclass(frozen=True)
class Dates:
    """Of each image a row of whole numbers: the number of its row, when it was stored, when it was taken or else stored
    (seconds since 1970), the first 8 bytes of its SHA-256, the first 16 of its name. `media_types`: of all of them.
    """

    table: Numbers  # (images, 6)
    media_types: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.table)

    def packed(self) -> PackedDates:
        return PackedDates(self.table.astype("<i8", copy=False).tobytes(), sorted(self.media_types))

    @classmethod
    def of(cls, packed: PackedDates) -> Dates:
        table = np.frombuffer(packed.table, "<i8").reshape(-1, _COLUMNS)
        return cls(table.astype(np.int64, copy=False), frozenset(packed.media_types))

    @classmethod
    def joined(cls, parts: Iterable[Dates]) -> Dates:
        """All of these, in their order."""
        parts = [_NONE, *parts]
        return cls(np.concatenate([part.table for part in parts]), frozenset().union(*(p.media_types for p in parts)))

    def only(self, numbers: Numbers) -> Dates:
        """Those of these rows."""
        return Dates(self.table[np.isin(self.table[:, _NUMBER], numbers)], self.media_types)

    def without(self, numbers: Numbers) -> Dates:
        """Those of all other rows."""
        if not len(numbers):
            return self
        return Dates(self.table[np.isin(self.table[:, _NUMBER], numbers, invert=True)], self.media_types)

    def by_storing(self) -> Numbers:
        """The numbers of the rows by when images were stored, and by SHA-256."""
        return self._sorted(_STORED, _SHA256)

    def newest_first(self) -> Numbers:
        """The numbers of the rows, what was taken last first, and by name and SHA-256."""
        table = self.table.copy()
        table[:, _DATE] *= -1
        return Dates(table)._sorted(_DATE, _NAME, _NAME_ON, _SHA256)

    def _sorted(self, *columns: int) -> Numbers:
        order = np.lexsort([self.table[:, column] for column in reversed(columns)])
        numbers: Numbers = self.table[order, _NUMBER]
        return numbers


_NONE = Dates(np.zeros((0, _COLUMNS), np.int64))


def dates_of(rows: Iterable[tuple[int, Described]]) -> Dates:
    """Those of these rows, by number."""
    listed, media_types = [], set()
    for number, described in rows:
        begin = _first(described.image_sha256)
        listed.append((number, described.stored_at, described.date, begin, *_name(described.name)))
        media_types.add(described.media_type)
    return Dates(np.array(listed, np.int64).reshape(-1, _COLUMNS), frozenset(media_types))


def _name(name: str) -> tuple[int, int]:
    folded = name.casefold().encode("utf-8", "surrogatepass")
    return _first(folded), _first(folded[8:16])


def _first(value: bytes) -> int:
    """The first 8 bytes as a number that sorts as they do."""
    return int.from_bytes(value[:8].ljust(8, b"\0"), "big") + _LEAST
