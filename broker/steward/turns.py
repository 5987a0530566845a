"""Work of many, done in turns: however much one has waiting, another's next waits for one of theirs."""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, Optional, TypeVar

T = TypeVar("T")


class _Waiting(NamedTuple):
    urgency: int
    number: int
    what: object


class Turns(Generic[T]):
    """Of one's own work the most urgent comes first, and of that as it came."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, list[_Waiting]] = OrderedDict()  # whose → a heap; whose turn it is first
        self._numbers = itertools.count()

    def add(self, whose: Hashable, what: T, urgency: int = 0) -> None:
        """`urgency`: less comes first."""
        heapq.heappush(self._waiting.setdefault(whose, []), _Waiting(urgency, next(self._numbers), what))

    def take(self) -> Optional[T]:
        """The next of whose turn it is; None where nothing is waiting."""
        if not self._waiting:
            return None
        whose, heap = next(iter(self._waiting.items()))
        what: T = heapq.heappop(heap).what  # type: ignore[assignment]
        if heap:
            self._waiting.move_to_end(whose)
        else:
            del self._waiting[whose]
        return what

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def count(self, *whose: Hashable) -> int:
        """How much of theirs is waiting; of all where none is named."""
        return sum(len(self._waiting.get(each, ())) for each in whose or self._waiting)
