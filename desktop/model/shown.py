"""What the gallery shows, in an order: a list, or images that are read from the vault's index as they are looked at.

Of a million images only those near the ones in sight are in memory. They are read page by page, in another thread; what
is not read yet is shown as it was before, or as an entry that says nothing.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Callable, Optional, Union, overload

import numpy as np

from common.errors import TesseraError
from common.vault.dates import Numbers
from desktop.background import Background, Failed
from desktop.model.entries import Entry, Key, nothing_read

PAGE = 50  # entries
_KEPT = 40  # pages
_AWAITED = 8  # pages; of what was passed by before it was read none is

Read = Callable[[Sequence[int]], list[Entry]]


class Shown(Sequence[Entry]):
    @abstractmethod
    def keys(self, first: int = 0, end: Optional[int] = None) -> frozenset[Key]:
        """Of all entries, or of those at these places."""

    @abstractmethod
    def place_of(self, key: Optional[Key]) -> Optional[int]:
        """Where the entry with this key is; None where it is not shown."""

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...

    def __getitem__(self, place: Union[int, slice]) -> Union[Entry, list[Entry]]:
        if isinstance(place, slice):
            return [self.at(each) for each in range(*place.indices(len(self)))]
        return self.at(range(len(self))[place])

    @abstractmethod
    def at(self, place: int) -> Entry:
        """The entry at a place."""


class Listed(Shown):
    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def at(self, place: int) -> Entry:
        return self._entries[place]

    def keys(self, first: int = 0, end: Optional[int] = None) -> frozenset[Key]:
        return frozenset(entry.key for entry in self._entries[first:end])

    def place_of(self, key: Optional[Key]) -> Optional[int]:
        return next((place for place, entry in enumerate(self._entries) if entry.key == key), None)


class Pages(Shown):
    """Images by the numbers of their rows; for the window's thread."""

    def __init__(
        self,
        numbers: Numbers,
        read: Read,
        background: Background,
        came: Callable[[], None],
        failed: Failed,
        former: Optional[Shown] = None,
    ) -> None:
        """`read`: called in another thread, gives the entry of each number. `came`: called when a page was read.

        `former`: what was shown before, from which an entry is taken until it is read.
        """
        self._numbers = numbers
        self._read = read
        self._background = background
        self._came, self._failed = came, failed
        self._former = former.at_hand if isinstance(former, Pages) else {}
        self._pages: OrderedDict[int, list[Entry]] = OrderedDict()
        self._awaited: list[int] = []
        self._reading = False

    def __len__(self) -> int:
        return len(self._numbers)

    def keys(self, first: int = 0, end: Optional[int] = None) -> frozenset[Key]:
        return frozenset(self._numbers[first:end].tolist())

    def chosen(self, keys: frozenset[Key]) -> list[int]:
        """The numbers of these, in their order."""
        wanted = np.fromiter((key for key in keys if isinstance(key, int)), np.int64)
        return list(self._numbers[np.isin(self._numbers, wanted)].tolist())

    def place_of(self, key: Optional[Key]) -> Optional[int]:
        places = np.flatnonzero(self._numbers == (key if isinstance(key, int) else 0))
        return int(places[0]) if len(places) else None

    def at(self, place: int) -> Entry:
        page = self._pages.get(place // PAGE)
        if page is not None:
            self._pages.move_to_end(place // PAGE)
            return page[place % PAGE]
        self._want(place // PAGE)
        number = int(self._numbers[place])
        return self._former.get(number) or nothing_read(number)

    def at_hand_of(self, numbers: Sequence[int]) -> Optional[list[Entry]]:
        """The entries of these, where all were read and are kept still."""
        at_hand = self._read_entries()
        return [at_hand[number] for number in numbers] if at_hand.keys() >= set(numbers) else None

    @property
    def at_hand(self) -> dict[int, Entry]:
        """What was read last, here or before, by number; of very many the last."""
        entries = {**self._former, **self._read_entries()}
        return dict(itertools.islice(entries.items(), max(0, len(entries) - _KEPT * PAGE), None))

    def _read_entries(self) -> dict[int, Entry]:
        return {entry.number: entry for page in self._pages.values() for entry in page}

    def _want(self, page: int) -> None:
        if page in self._awaited:
            self._awaited.remove(page)
        self._awaited = [*self._awaited[1 - _AWAITED :], page]
        if not self._reading:
            self._read_next()

    def _read_next(self) -> None:
        """Read the page that was wanted last."""
        page = self._awaited.pop()
        numbers = self._numbers[page * PAGE : (page + 1) * PAGE].tolist()
        self._reading = True
        self._background.run(
            lambda: self._read(numbers),
            done=lambda entries: self._keep(page, entries),
            failed=lambda error: self._fail(page, numbers, error),
        )

    def _keep(self, page: int, entries: list[Entry]) -> None:
        self._pages[page] = entries
        while len(self._pages) > _KEPT:
            self._pages.popitem(last=False)
        self._reading = False
        if self._awaited:
            self._read_next()
        self._came()

    def _fail(self, page: int, numbers: list[int], error: TesseraError) -> None:
        self._keep(page, [nothing_read(number, "not readable") for number in numbers])
        self._failed(error)
